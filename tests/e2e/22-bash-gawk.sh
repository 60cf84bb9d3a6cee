#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs whose sockets are FILE streams: gawk's /inet, as server and client, and bash's /dev/tcp
# with nothing but builtins, whose output is stdio's on a duplicate of the socket.
. "$(dirname "$0")/lib.sh"
need gawk bash
ports 18150
marker mark-e2e-gawk-5e07
pair bash gawk
pair gawk gawk

body() {
    local rc=0
    cat >serve.awk <<'A'
BEGIN {
    s = "/inet/tcp/18150/0/0"
    for (i = 1; i <= 3; i++) {
        while ((s |& getline line) > 0) {
            printf "%d %s: %s\n", ++n, "mark-e2e-gawk-5e07", substr(line, 1, 40) |& s
            total += length(line)
            if (line == "end")
                break
        }
        close(s)
        print "served", i, n, total
        fflush()
    }
}
A
    cat >ask.awk <<'A'
BEGIN {
    s = "/inet/tcp/0/127.0.0.1/18150"
    for (i = 0; i < 500; i++) {
        print "question", i |& s
        s |& getline answer
        last = answer
    }
    print last
    printf "half a line, " |& s
    print "and the rest mark-e2e-gawk-5e07" |& s
    s |& getline
    print
    print "end" |& s
    s |& getline
    print
    print "and then", (s |& getline)
}
A
    cat >ask.sh <<'S'
exec 3<>/dev/tcp/127.0.0.1/18150 || exit 1
for i in 1 2 3; do
    echo "mark-e2e-gawk-5e07 from bash $i" >&3
    read -r answer <&3 && echo "$answer"
done
printf 'x%.0s' {1..70000} >&3
printf '\nend\n' >&3
while read -r answer <&3; do echo "$answer"; done
exec 3>&-
S
    bg serve $RUN gawk -f serve.awk
    local server=$BG
    listening 18150 || return 1
    $RUN bash ask.sh || rc=1
    listening 18150 || return 1
    $RUN gawk -f ask.awk || rc=1
    listening 18150 || return 1
    $RUN bash ask.sh || rc=1
    wait "$server" || rc=1
    cat serve.log
    return $rc
}
e2e
