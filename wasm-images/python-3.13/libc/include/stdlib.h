/* What wasi-libc's <stdlib.h> leaves out and libc/ adds. */
#include_next <stdlib.h>
#ifndef WISP_STDLIB_H
#define WISP_STDLIB_H

int system(const char *command);

#endif
