/* Static binaries end at a panic, so nothing in them unwinds. What std still holds to print a backtrace, and to
   unwind, would bring in libunwind and with it printf: 25 KB. Weak, so that libunwind counts where it is needed. */
#define NEVER(name) __attribute__((weak)) void *name(void) { __builtin_trap(); }

/* _URC_END_OF_STACK: a backtrace is empty. A stripped binary has no names for it anyway. */
__attribute__((weak)) int _Unwind_Backtrace(void *each, void *argument) {
  (void)each;
  (void)argument;
  return 5;
}
NEVER(_Unwind_GetDataRelBase)
NEVER(_Unwind_GetIP)
NEVER(_Unwind_GetIPInfo)
NEVER(_Unwind_GetLanguageSpecificData)
NEVER(_Unwind_GetRegionStart)
NEVER(_Unwind_GetTextRelBase)
NEVER(_Unwind_SetGR)
NEVER(_Unwind_SetIP)
