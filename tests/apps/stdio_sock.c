/* SPDX-License-Identifier: Apache-2.0
 *
 * stdio_sock: line protocols through FILE: fdopen, fprintf, fgets, getline, fread, fwrite, dprintf,
 * setvbuf, ungetc; none of these calls leaves libc by a name that could be replaced. fclose ends
 * the connection.
 */
/* run: modes thread fork */
#include "app.h"

static void
server(int fd)
{
    static char b[70000];
    char *line = NULL;
    size_t cap = 0;
    FILE *in = fdopen((int)CK(dup(fd)), "r"), *out = fdopen((int)CK(dup(fd)), "w");
    MUST(in && out);
    setvbuf(out, NULL, _IOLBF, 0);
    fprintf(out, "220 PLAINMARKER ready\n");
    for (int i = 0; i < 3; i++) {
        ssize_t r = getline(&line, &cap, in);
        say("line of %zd: %.20s\n", r, r > 0 ? strtok(line, "\n") : "");
        fprintf(out, "250 PLAINMARKER ok %d\n", i);
    }
    say("fread %zu\n", fread(b, 1, sizeof b, in));
    say("match %zu, feof %d, ferror %d\n", app_match(b, sizeof b, 0), feof(in) != 0,
        ferror(in) != 0);
    int c = fgetc(in);
    ungetc(c, in);
    MUST(fgets(b, 100, in));
    say("%s", b);
    fputs("221 PLAINMARKER bye\n", out);
    fclose(out);
    MUST(fgetc(in) == EOF);
    say("feof %d, ferror %d\n", feof(in) != 0, ferror(in) != 0);
    fclose(in);
    free(line);
}

static void
client(int fd)
{
    static char b[70000];
    FILE *f = fdopen((int)CK(dup(fd)), "r+");
    char line[200];
    MUST(f && fgets(line, sizeof line, f));
    say("%s", line);
    fprintf(f, "HELO %s\n", "PLAINMARKER");
    fflush(f);
    MUST(fgets(line, sizeof line, f));
    say("%s", line);
    say("dprintf %d\n", dprintf(fd, "DATA %d PLAINMARKER\n", 17));
    MUST(fgets(line, sizeof line, f));
    say("%s", line);
    RES(write(fd, "RAW PLAINMARKER\n", 16));
    MUST(fgets(line, sizeof line, f));
    say("%s", line);
    app_fill(b, sizeof b, 0);
    say("fwrite %zu\n", fwrite(b, 1, sizeof b, f));
    say("fputs %d\n", fputs("QUIT PLAINMARKER\n", f) >= 0);
    say("fflush %d\n", fflush(f));
    MUST(fgets(line, sizeof line, f));
    say("%s", line);
    say("fclose %d\n", fclose(f));
}

int
main(int argc, char **argv)
{
    app_main(argc, argv);
    app_talk("line protocol", server, client);
    return 0;
}
