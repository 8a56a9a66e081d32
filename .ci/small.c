/* What a static binary would otherwise bring in for nothing, 34 KB in all.

   Static binaries end at a panic, so nothing in them unwinds. What std still holds to print a backtrace, and to
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

/* The C library's prints a path into /proc for threads other than the caller, and brings in printf for that. std
   names none but the calling one. */
extern int prctl(int, ...);
__attribute__((weak)) int pthread_setname_np(void *thread, const char *name) {
  (void)thread;
  return prctl(15 /* PR_SET_NAME */, (unsigned long)name, 0UL, 0UL, 0UL) == 0 ? 0 : 34 /* ERANGE */;
}
