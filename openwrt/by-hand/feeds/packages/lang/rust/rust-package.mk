# The program is built already.

RustBinPackage :=
