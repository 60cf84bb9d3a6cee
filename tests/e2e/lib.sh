# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What every end-to-end test sources. A test is one page: it names its programs, ports, identities
# and marker, defines body(), and ends with `e2e`. The body runs twice, the same commands: bare and
# meshed (then $RUN is the launcher, before it was empty;
# $PRELOAD is what the launcher sets, without its checks). A test passes when
#   - both halves print the same and return the same,
#   - the capture of the bare half is readable (so that the next line proves something),
#   - the capture of the meshed half is TLS 1.3 only, with the marker nowhere,
#   - the status socket shows both identities in one connection.
# As root each half has its own network and process namespace, which also ends all it started.
# Otherwise it runs on the host's loopback, without a capture, and says so.
#
#   need PROG...            programs (or files) that must be there, else the test is skipped
#   ports N...              TCP ports that must carry TLS 1.3 only; `ports any`: all streams
#   marker TEXT             must be readable bare and nowhere meshed; may be repeated
#   pair CLIENT SERVER      programs whose identities one connection must show; may be repeated
#   limit SECONDS           for one half of an idle machine (default 120)
#   config()                optional: prints meshd's configuration file (default: none at all)
#   meshed() verdict() normal()   optional: checks after the meshed body, after either body; a filter
#                           for the output before it is compared
# In a body:
#   bg LABEL CMD...         a server in the background (log in LABEL.log), its pid in $BG
#   listening PORT          waits until it listens and, when meshed, is registered
#   use_run_dir DIR         meshed: another meshd's run directory, for $RUN and $PRELOAD
#   until_ok SECONDS CMD... waits for a condition; so long on an idle machine
#   as USER CMD...          runs as another user when root, as ourselves when not
#   bytes N [SEED]          the same pseudo-random bytes each time
#   nginx_paths [N]         for nginx's http { }: where its temporary files go
#   svid NAME [OPTION...]   certs/NAME.{crt,key,pem} for a peer that is not ours (see ./svid)
#   load N URL FILE         N clients fetch URL again and again and compare it with FILE
#   load_more N             waits until each has got N more answers
#   load_end                ends them; prints what failed, and returns 1 if anything did
#   ask ...                 ask.py on the status socket (meshed half only)
#
# E2E_BUILD: where libmesh.so and meshd are (default build/). E2E_HALVES: "bare mesh".
# E2E_KEEP=1 keeps the work directory; a failure keeps it too.

set -u
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
E2E=$TOP/tests/e2e
export E2E
SELF=$(readlink -f "$0")
NAME=$(basename "$0" .sh)
: "${E2E_HALVES:=bare mesh}" "${E2E_BUILD:=$TOP/build}" "${E2E_INNER:=}"
export E2E_BUILD LC_ALL=C.UTF-8
# Debian's programs, not others of the same name; nothing of the caller's mesh or proxies.
PATH=$(echo /usr/lib/postgresql/*/bin | tr " " ":"):/usr/sbin:/usr/bin:/sbin:/bin
export PATH
unset LD_PRELOAD LIBMESH LIBMESH_RUN_DIR LIBMESH_LIB LIBMESH_LOG LIBMESH_WAIT LIBMESH_FALLBACK \
    LIBMESH_SERVICE http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy

SLOW=1 # how many times longer what must take a fixed time is to take
PATIENCE=5 # how many times longer than on an idle machine an end is waited for: a busy one is no failure
case ${E2E_BUILD##*/} in build-*) SLOW=5 ;; esac
PORTS=() MARKERS=() PAIRS=() PIDS=() LIMIT=120 RUN='' PRELOAD='' WIRE_BARE=plain WIRE_OPTS='' LACKS=''
ROOT=$([ "$(id -u)" = 0 ] && unshare -n true 2>/dev/null && echo 1)

need() {
    local p
    for p in "$@"; do
        command -v "$p" >/dev/null || [ -e "$p" ] || LACKS="$LACKS $p"
    done
}
ports() { PORTS+=("$@"); }
marker() { MARKERS+=("$1"); }
pair() { PAIRS+=("$1 $2"); }
limit() { LIMIT=$1; }

# -- for bodies ---------------------------------------------------------------------------------

# Prints a problem that fails the test whatever the comparison says.
problem() { printf '%s\n' "$*" >>"$WORK/problems"; }

bg() {
    local label=$1
    shift
    # A function (as) cannot be exec'd, so it does that itself: $BG is the program's own pid.
    { if [ "$1" = as ]; then IN_BG=1; "$@"; else exec "$@"; fi; } >"$WORK/$label.log" 2>&1 </dev/null &
    BG=$!
    PIDS+=("$BG")
}

# Polls, because conditions in other processes have nothing to wait on.
until_ok() {
    local end=$((SECONDS + $1 * PATIENCE))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            problem "never came true: $*"
            return 1
        fi
        read -rt 0.05 _ <>"$WORK/never" || :
    done
}

is_listening() {
    awk -v p="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == p { f = 1 }
        END { exit !f }' /proc/net/tcp /proc/net/tcp6
}
listening() {
    until_ok 60 is_listening "$1" || return 1
    # Outside of a namespace somebody else may have the port.
    if is_gone "$BG"; then
        problem "the server has ended; what listens on $1 is another: $(tail -qn 2 "$WORK"/*.log)"
        return 1
    fi
    [ "$HALF" = bare ] || [ -n "${OFF_MESH:-}" ] || until_ok 10 ask endpoint "$1"
}
connected_to() { # an established connection whose remote port is $1
    awk -v p="$(printf ':%04X' "$1")" '$4 == "01" && substr($3, length($3) - 4) == p { f = 1 }
        END { exit !f }' /proc/net/tcp /proc/net/tcp6
}
is_gone() { ! kill -0 "$1" 2>/dev/null; }

# Ends one of our own background processes and waits for it.
stop() {
    kill "${2:--TERM}" "$1" 2>/dev/null
    wait "$1" 2>/dev/null
}

as() {
    local user=$1
    shift
    if [ "$(id -u)" = 0 ]; then
        set -- setpriv --reuid="$user" --regid="$(id -g "$user")" --clear-groups \
            env HOME="$WORK/tmp" "$@"
    fi
    [ -z "${IN_BG:-}" ] || exec "$@"
    "$@"
}

bytes() {
    openssl enc -aes-128-ctr -nosalt -K 000102030405060708090a0b0c0d0e0f \
        -iv "$(printf %032x "${2:-1}")" -in /dev/zero 2>/dev/null | head -c "$1"
}
sum() { sha256sum | cut -c1-16; }
nginx_paths() {
    local kind
    for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $WORK/tmp/$kind${1:-};"; done
}

load_one() {
    local n=0
    until [ -e "$WORK/load.end" ]; do
        $RUN curl -sS --max-time 60 "$2" >"$WORK/load.$1" 2>"$WORK/load.err.$1" &&
            cmp -s "$3" "$WORK/load.$1" || echo "failed: $(cat "$WORK/load.err.$1")" >>"$WORK/load.bad"
        n=$((n + 1))
        echo $n >"$WORK/load.n.$1"
    done
}
load() {
    local i
    rm -f "$WORK"/load.*
    LOAD=()
    for ((i = 0; i < $1; i++)); do
        load_one $i "$2" "$3" &
        LOAD+=($!)
    done
    load_more 2
}
load_count() { cat "$WORK/load.n.$1" 2>/dev/null || echo 0; }
load_has() { [ "$(load_count "$1")" -ge "$2" ]; }
load_more() {
    local i want
    for ((i = 0; i < ${#LOAD[@]}; i++)); do want[i]=$(($(load_count $i) + $1)); done
    for ((i = 0; i < ${#LOAD[@]}; i++)); do until_ok 60 load_has $i "${want[i]}"; done
}
load_end() {
    touch "$WORK/load.end"
    wait "${LOAD[@]}"
    [ ! -e "$WORK/load.bad" ] || { cat "$WORK/load.bad"; return 1; }
}

ask() { /usr/bin/python3 "$E2E/ask.py" "$RUN_DIR/status.sock" "$@"; }

# svid NAME [OPTION...]: a certificate in $WORK/certs for a peer that is not under libmesh, from
# meshd's authority (bare: from one of the same shape).
svid() {
    local state=$WORK/run/state
    if [ "$HALF" = bare ]; then
        state=$WORK/state
        [ -d "$state" ] || "$E2E/svid" --make-ca "$state"
    fi
    "$E2E/svid" "$state" "$WORK/certs" "$@"
}

# The SPIFFE ID that a program has with no workload rule: by its executable's name.
spiffe() {
    local p
    p=$(command -v "$1" || echo "$1")
    echo "spiffe://mesh.local/ns/default/sa/$(basename "$(readlink -f "$p")")"
}

# -- one half, inside the namespace ---------------------------------------------------------------

start_capture() {
    [ ${#PORTS[@]} -gt 0 ] || return 0
    local filter='udp port 9' p
    for p in "${PORTS[@]}"; do filter="$filter or tcp port $p"; done
    # A marker must be nowhere, so then everything is captured.
    [ "${PORTS[*]}" != any ] && [ ${#MARKERS[@]} = 0 ] || filter='tcp or udp port 9'
    tcpdump -Z root -i lo -U -s 262144 -B 98304 -w "$WORK/lo.pcap" "$filter" \
        2>"$WORK/tcpdump.err" &
    CAPTURE=$!
    until_ok 10 grep -q 'listening on' "$WORK/tcpdump.err"
}

# The capture is complete when a datagram sent after everything else is in it; meshd's health checks go on behind it.
last_packet_seen() {
    tail -c "+$((CAPTURED + 1))" "$WORK/lo.pcap" | grep -qa "the-last-packet-of-$NAME"
}
end_capture() {
    CAPTURED=$(stat -c %s "$WORK/lo.pcap")
    echo "the-last-packet-of-$NAME" >/dev/udp/127.0.0.1/9
    until_ok 30 last_packet_seen
    stop "$CAPTURE" -INT
    CAPTURE=
}
stop_capture() {
    [ -n "${CAPTURE:-}" ] || return 0
    end_capture
    local args=() m p=${PORTS[*]} expect=tls13
    [ "$p" != any ] || p=
    [ "$HALF" = mesh ] || expect=$WIRE_BARE
    [ -n "$expect" ] || return 0
    for m in "${MARKERS[@]}"; do args+=(--marker "$m"); done
    # shellcheck disable=SC2086
    /usr/bin/python3 "$E2E/wire.py" "$WORK/lo.pcap" --expect $expect --ports "${p// /,}" \
        $WIRE_OPTS "${args[@]}" >"$WORK/wire" 2>&1 ||
        problem "wire ($HALF):"$'\n'"$(cat "$WORK/wire")"
}

meshd_answers() { [ -S "$RUN_DIR/meshd.sock" ] && ask json status; }
start_meshd() {
    if declare -F config >/dev/null; then
        MESHD_CONF=$WORK/meshd.conf
        config >"$MESHD_CONF"
    fi
    "$E2E_BUILD/meshd" ${MESHD_CONF:+-c "$MESHD_CONF"} --run-dir "$RUN_DIR" \
        >>"$WORK/meshd.log" 2>&1 </dev/null &
    MESHD=$!
    until_ok 20 meshd_answers || {
        problem "meshd does not answer:"$'\n'"$(tail -5 "$WORK/meshd.log")"
        return 1
    }
}

# A copy that every user can read: the tree may lie in somebody's home.
use_mesh() {
    RUN_DIR=$WORK/run
    mkdir -p "$WORK/lib"
    cp "$E2E_BUILD"/libmesh.so "$E2E_BUILD"/libmesh-engine.so "$E2E_BUILD"/libmesh-relay \
        "$TOP/scripts/mesh-run" "$WORK/lib/" &&
        chmod -R a+rX "$WORK/lib"
    LIBMESH_LIB=$WORK/lib/libmesh.so
    LIBMESH_WAIT=60s # a machine on which meshd may be slow to answer
    export LIBMESH_LIB RUN_DIR LIBMESH_WAIT
    PRELOADS=$LIBMESH_LIB
    case ${E2E_BUILD##*/} in
    build-*address*) use_sanitizer libasan.so ;;
    build-*thread*) use_sanitizer libtsan.so ;;
    esac
    use_run_dir "$RUN_DIR"
}
use_run_dir() {
    RUN_DIR=$1
    PRELOAD="env LD_PRELOAD=$PRELOADS LIBMESH_RUN_DIR=$RUN_DIR"
    RUN="$WORK/lib/mesh-run --run-dir $RUN_DIR"
    # The launcher would put libmesh.so in front; what is there already it leaves alone.
    [ "$PRELOADS" = "$LIBMESH_LIB" ] || RUN="env LD_PRELOAD=$PRELOADS $RUN"
}

# The programs are not built with the sanitizer, so its runtime is preloaded too. What it has to say
# goes into files: stderr is the program's, and often discarded. (UBSan knows no files here; it ends
# the program, which the comparison shows.)
use_sanitizer() {
    local runtime reports=$WORK/san
    runtime=$(readlink -f "$("${CC:-gcc}" -print-file-name="$1")")
    mkdir -m 1777 "$reports"
    cp "$E2E_BUILD/early.so" "$WORK/lib/"
    PRELOADS=$WORK/lib/early.so:$runtime:$LIBMESH_LIB
    # ThreadSanitizer does not look at atomics below its own read(): ours must be above it.
    [ "$1" != libtsan.so ] || PRELOADS=$LIBMESH_LIB:$runtime:$WORK/lib/early.so
    export ASAN_OPTIONS=log_path=$reports/asan
    export TSAN_OPTIONS=log_path=$reports/tsan:die_after_fork=0:exitcode=0
}
# ThreadSanitizer sees nothing of what a program does that it has not built (V8's atomics are no
# synchronisation to it): only reports in which we occur say something.
no_reports() {
    local f text
    for f in "$WORK"/san/*; do
        [ -e "$f" ] || continue
        text=$(case ${f##*/} in
            tsan*) awk -v RS='==================\n' '/libmesh/' "$f" ;;
            *) cat "$f" ;;
            esac | head -60)
        [ -z "$text" ] || problem "sanitizer, ${f##*/}:"$'\n'"$text"
    done
}

inner() {
    HALF=$E2E_INNER
    WORK=$E2E_WORK/$HALF
    mkdir -p "$WORK/tmp"
    chmod 755 "$E2E_WORK" "$WORK"
    chmod 1777 "$WORK/tmp"
    mkfifo "$WORK/never"
    export WORK HALF TMPDIR=$WORK/tmp HOME=$WORK/tmp
    cd "$WORK" || exit 1
    if [ -n "$ROOT" ]; then
        ip link set lo up
        start_capture
    else
        trap 'for p in "${PIDS[@]}" ${MESHD:-}; do kill "$p" 2>/dev/null; done' EXIT
    fi
    if [ "$HALF" = mesh ]; then
        use_mesh
        [ -n "${NO_MESHD:-}" ] || start_meshd || { echo 1 >"$WORK/rc"; exit 0; }
    fi
    export RUN PRELOAD
    body >"$WORK/out" 2>"$WORK/err" </dev/null
    echo $? >"$WORK/rc"
    if declare -F verdict >/dev/null; then verdict; fi
    if [ "$HALF" = mesh ]; then
        local p c s
        for p in "${PAIRS[@]}"; do
            read -r c s <<<"$p"
            until_ok 5 ask pair "$(spiffe "$c")" "$(spiffe "$s")" ||
                problem "$(ask pair "$(spiffe "$c")" "$(spiffe "$s")")"
        done
        if declare -F meshed >/dev/null; then
            meshed >"$WORK/meshed.out" 2>&1 || problem "meshed(): $(tail -5 "$WORK/meshed.out")"
        fi
        [ -z "${MESHD:-}" ] || kill -0 "$MESHD" 2>/dev/null || problem "meshd died"
        no_reports
    fi
    [ -z "$ROOT" ] || stop_capture
}

# -- both halves and the verdict --------------------------------------------------------------------

say_not_ok() {
    echo "not ok $NAME - $1"
    for h in $E2E_HALVES; do
        [ ! -s "$E2E_WORK/$h/problems" ] || sed "s/^/#   $h: /" "$E2E_WORK/$h/problems" | head -25
        [ ! -s "$E2E_WORK/$h/err" ] || tail -5 "$E2E_WORK/$h/err" | sed "s/^/#   $h: stderr: /"
    done
    echo "#   kept: $E2E_WORK"
    exit 1
}

e2e() {
    if [ -n "$E2E_INNER" ]; then inner; exit 0; fi
    if [ -n "$LACKS" ]; then
        echo "ok $NAME # skip: not here:$LACKS"
        exit 77
    fi
    local half ns=() rc what=() start=$SECONDS
    case " $E2E_HALVES " in *' mesh '*)
        for half in libmesh.so meshd; do
            [ -e "$E2E_BUILD/$half" ] || { echo "not ok $NAME - no $E2E_BUILD/$half"; exit 1; }
        done ;;
    esac
    E2E_WORK=$(mktemp -d "${TMPDIR:-/tmp}/e2e-$NAME.XXXXXX")
    export E2E_WORK
    [ -z "$ROOT" ] || ns=(unshare --net --pid --fork --kill-child --mount-proc)
    for half in $E2E_HALVES; do
        E2E_INNER=$half timeout -k 5 $((LIMIT * PATIENCE)) "${ns[@]}" bash "$SELF" \
            >"$E2E_WORK/$half.log" 2>&1 </dev/null
        rc=$?
        [ $rc -lt 124 ] || say_not_ok "the $half half took over $((LIMIT * PATIENCE)) s"
        [ -s "$E2E_WORK/$half/rc" ] ||
            say_not_ok "the $half half broke off: $(tail -1 "$E2E_WORK/$half.log")"
        [ ! -s "$E2E_WORK/$half/problems" ] || what+=("$half")
        if declare -F normal >/dev/null; then
            normal <"$E2E_WORK/$half/out" >"$E2E_WORK/$half/out.n"
        else
            cp "$E2E_WORK/$half/out" "$E2E_WORK/$half/out.n"
        fi
        echo "exit code $(cat "$E2E_WORK/$half/rc")" >>"$E2E_WORK/$half/out.n"
    done
    if [ -z "${MAY_FAIL:-}" ] && [ "$(cat "$E2E_WORK/${E2E_HALVES%% *}/rc")" != 0 ]; then
        say_not_ok "the ${E2E_HALVES%% *} half fails already (exit code $(cat "$E2E_WORK/${E2E_HALVES%% *}/rc"))"
    fi
    if [ "$E2E_HALVES" = 'bare mesh' ] && [ -z "${NO_COMPARE:-}" ] &&
        ! diff -u "$E2E_WORK/bare/out.n" "$E2E_WORK/mesh/out.n" >"$E2E_WORK/diff"; then
        sed 1,2d "$E2E_WORK/diff" | head -20 | sed 's/^/#   /'
        say_not_ok "bare and meshed differ"
    fi
    [ ${#what[@]} = 0 ] || say_not_ok "problems in: ${what[*]}"
    if [ -n "${E2E_KEEP:-}" ]; then echo "# kept: $E2E_WORK"; else rm -rf "$E2E_WORK"; fi
    echo "ok $NAME ($((SECONDS - start)) s)$([ -n "$ROOT" ] || echo ' # no root: namespace and capture skipped')"
}
