#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Programs in Go, whose system calls are their own: libmesh is loaded into them, but sees no socket. It
# must do no harm there (the runtime has signal stacks, preempts by signals, forks by clone and executes
# by number) and must tell the truth about what it does not cover. hey, a load generator, asks a meshed
# nginx: served and counted as plaintext in permissive, and shown; in strict not one request gets
# through. websocketd, a server, is in no registry: curl's plaintext to it is counted, or with egress =
# "registry_only" refused. Bare, all of it works.
. "$(dirname "$0")/lib.sh"
need hey websocketd nginx curl
NO_MESHD=1 NO_COMPARE=1

conf() {
    case $1 in
    permissive) echo 'mode = "permissive";' ;;
    strict) echo 'mode = "strict"; egress = "registry_only";' ;;
    esac
}

files() {
    mkdir www cgi
    bytes 200000 6 >www/data
    echo '<p>index</p>' >www/index.html
    # Started by Go's fork and exec; what it starts is a child of the ordinary kind.
    printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n"\necho "from $(echo a script)"\n' >cgi/say
    chmod 755 cgi/say
    chmod -R a+rX .
    cat >nginx.conf <<C
worker_processes 1;
pid $WORK/nginx.pid;
daemon off;
events { worker_connections 256; }
http {
    access_log $WORK/access;
    server { listen 127.0.0.1:18840; root $WORK/www; }
}
C
}

expect() { # what wanted got
    [[ $3 == "$2" ]] || problem "$1: wanted '$2', got '$3'"
}

# What hey counts by status: `[200] 300 responses`.
answers() { sed -n 's/^ *\(\[[0-9]*\]\)[^0-9]*\([0-9]*\) responses$/\1 \2/p'; }
loaded() { # what wanted hey's-options...
    local what=$1 wanted=$2
    shift 2
    expect "hey, $what" "$wanted" "$($PRELOAD hey -t 60 "$@" http://127.0.0.1:18840/data 2>&1 | answers)"
}
grew() { [ "$(ask sum "$1")" -gt "$2" ]; }

half() { # mode
    local mode=$1 served=1
    [ "$HALF" = bare ] || [ "$mode" = permissive ] || served=
    bg nginx $RUN nginx -e "$WORK/nginx.err" -c "$WORK/nginx.conf"
    local nginx=$BG
    listening 18840 || return 1
    OFF_MESH=1
    bg websocketd $PRELOAD websocketd --address=127.0.0.1 --port=18841 --staticdir=www --cgidir=cgi
    local websocketd=$BG
    listening 18841 || return 1
    OFF_MESH=
    : >access
    loaded "$mode, kept open" "${served:+[200] 300}" -n 300 -c 10
    loaded "$mode, one each" "${served:+[200] 100}" -n 100 -c 10 -disable-keepalive
    expect "$mode: nginx's log of hey" $((served ? 400 : 0)) "$(grep -c hey access)"
    if [ "$served" ]; then
        expect "$mode: a file of websocketd's" "$(sum <www/data)" \
            "$($RUN curl -sS http://127.0.0.1:18841/data | sum)"
        expect "$mode: a program of websocketd's" 'from a script' \
            "$($RUN curl -sS http://127.0.0.1:18841/say)"
    else
        $RUN curl -sS http://127.0.0.1:18841/data && problem "$mode: websocketd was reached"
    fi
    expect "$mode: meshed to meshed" '<p>index</p>' "$($RUN curl -sS http://127.0.0.1:18840/)"
    # Without libmesh in it it is the same program.
    expect "$mode: curl without libmesh, to websocketd" "$(sum <www/data)" \
        "$(curl -sS http://127.0.0.1:18841/data | sum)"
    stop "$websocketd"
    stop "$nginx"
}

# How many connections in plaintext meshctl status tells of; nothing if it does not say it loudly.
shown() {
    "$E2E_BUILD/meshctl" --run-dir "$RUN_DIR" status |
        sed -n 's/^PLAINTEXT IN  *\([0-9]*\) connections accepted WITHOUT TLS.*/\1/p'
}

counted() { # mode
    until_ok 5 grew handshakes 0
    ! ask endpoint 18841 || problem "$1: websocketd's listener is registered"
    if [ "$1" = permissive ]; then
        until_ok 5 grew plaintext_in 109 # 10 that were kept open and 100
        until_ok 5 grew plaintext_out 1
        [ "0$(shown)" -ge 110 ] || problem "status shows '$(shown)' connections in plaintext"
    else
        until_ok 5 grew plaintext_refused 0
        ! grew plaintext_in 0 || problem 'strict: plaintext came in'
        ! grew plaintext_out 0 || problem 'strict: plaintext went out'
    fi
}

body() {
    local mode
    files
    for mode in permissive strict; do
        if [ "$HALF" = mesh ]; then
            use_run_dir "$WORK/run-$mode"
            conf $mode >$mode.conf
            MESHD_CONF=$WORK/$mode.conf start_meshd || return 1
        fi
        half $mode || return 1
        [ "$HALF" = bare ] || { counted $mode; stop "$MESHD"; }
    done
    MESHD=
}
e2e
