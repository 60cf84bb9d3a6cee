/* SPDX-License-Identifier: Apache-2.0
 *
 * deepbind_dep.so: needed by deepbind.so, and defines a function by a name of libc's: for a library that is loaded
 * with RTLD_DEEPBIND it stands before libc's.
 */
int sockatmark(int fd);
void *mine(void);

int
sockatmark(int fd)
{
    return 4200 + (fd < 0);
}

void *
mine(void)
{
    return (void *)sockatmark;
}
