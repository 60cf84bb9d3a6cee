/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_text.so: the same, and its table lies among its constants, which only the loader may write to (DT_TEXTREL).
 */
/* cc: -Wl,-z,notext -l:deepbind_dep.so -Wl,-rpath,$ORIGIN */
#define deep ordinary
#include "deepbind.c"

__asm__(".section .rodata\n"
        ".balign 8\n"
        ".globl deep\n"
        ".type deep, %object\n"
        "deep: .quad dial, answer, read, write, marks, kinds\n"
        ".size deep, . - deep\n"
        ".previous\n");
