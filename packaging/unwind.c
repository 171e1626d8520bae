/* In place of libunwind, 40 KB: the gateway aborts on a panic and has no unwinding tables, so there is nothing to walk.
 * Each function says that it knows nothing. All that Rust's library asks for is here: were one missing, the linker would
 * take libunwind too, and complain that the others are there twice. */

typedef __UINTPTR_TYPE__ word;
enum { OK = 0, END_OF_STACK = 5, FAILURE = 9 };

int _Unwind_Backtrace(void *each, void *about) { return END_OF_STACK; }
word _Unwind_GetIP(void *context) { return 0; }
word _Unwind_GetIPInfo(void *context, int *before) { *before = 0; return 0; }
word _Unwind_GetCFA(void *context) { return 0; }
word _Unwind_GetDataRelBase(void *context) { return 0; }
word _Unwind_GetTextRelBase(void *context) { return 0; }
word _Unwind_GetRegionStart(void *context) { return 0; }
void *_Unwind_GetLanguageSpecificData(void *context) { return 0; }
void *_Unwind_FindEnclosingFunction(void *address) { return 0; }
void _Unwind_SetGR(void *context, int index, word value) {}
void _Unwind_SetIP(void *context, word value) {}

#ifdef __arm__
int _Unwind_VRS_Get(void *context, int class, word number, int kind, void *value) { *(word *)value = 0; return OK; }
int _Unwind_VRS_Set(void *context, int class, word number, int kind, void *value) { return OK; }
int __gnu_unwind_frame(void *exception, void *context) { return FAILURE; }
int __aeabi_unwind_cpp_pr0(int state, void *exception, void *context) { return FAILURE; }
int __aeabi_unwind_cpp_pr1(int state, void *exception, void *context) { return FAILURE; }
int __aeabi_unwind_cpp_pr2(int state, void *exception, void *context) { return FAILURE; }
#endif
