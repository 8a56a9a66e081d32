# What OpenWrt's build system provides, as far as make-ipk needs it to make the packages of their own Makefiles.
#
# From its caller: STAGE, the directory to work in, with the program at bin/lanrage; ARCHITECTURE.

INCLUDE_DIR := $(TOPDIR)
PKG_BUILD_DIR := $(STAGE)/build
PKG_INSTALL_DIR := $(STAGE)

INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_CONF := install -m0600
INSTALL_DATA := install -m0644
CP := cp -fpR
