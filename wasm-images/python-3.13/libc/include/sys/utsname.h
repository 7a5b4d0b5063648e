/* What the kernel calls itself, which wasi-libc does not ask. */
#include_next <sys/utsname.h>
#ifndef WISP_SYS_UTSNAME_H
#define WISP_SYS_UTSNAME_H

int wisp_libc_uname(struct utsname *out);
#define uname(out) wisp_libc_uname(out)

#endif
