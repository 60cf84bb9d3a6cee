#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# vsftpd as Debian configures it: two processes for each session, made by a bare clone(2). The one that
# speaks with the client is unprivileged, in a chroot, in a network namespace of its own, and allows
# itself no further descriptors. Data connections in both directions: passive (the listener is made
# inside of the chroot) and active (from port 20, opened by the privileged one and passed on).
# Listings, downloads, uploads, resumed and broken off transfers, one that never begins.
. "$(dirname "$0")/lib.sh"
need vsftpd curl
ports any
marker mark-e2e-vsftpd-20b9
pair curl vsftpd

conf() {
    printf '%s\n' listen=YES listen_port=18740 listen_address=127.0.0.1 background=NO \
        anonymous_enable=YES write_enable=YES anon_upload_enable=YES anon_other_write_enable=YES \
        anon_mkdir_write_enable=YES "anon_root=$WORK/pub" no_anon_password=YES anon_umask=022 \
        pasv_min_port=18741 pasv_max_port=18749 port_enable=YES connect_from_port_20=YES \
        "secure_chroot_dir=$WORK/empty" xferlog_enable=YES "vsftpd_log_file=$WORK/transfers" \
        ftpd_banner=mark-e2e-vsftpd-20b9 "$@"
}

get() { $RUN curl -sS --max-time 60 "$@"; }

session() { # options that choose the kind of data connection
    local rc=0 url=ftp://127.0.0.1:18740
    get "$@" $url/ | awk '{ print $1, $3, $5, $NF }'
    get "$@" $url/data | cmp - data && echo 'download: same' || rc=1
    get "$@" -r 1000- $url/data | cmp - <(tail -c +1001 data) && echo 'resumed: same' || rc=1
    get "$@" -T data $url/up/new && cmp data pub/up/new && echo 'upload: same' || rc=1
    get "$@" $url/data $url/marker $url/data | cmp - <(cat data pub/marker data) &&
        echo 'three in one session: same' || rc=1
    get "$@" -r 0-99 $url/data | cmp - <(head -c 100 data) && echo 'broken off: same' || rc=1
    get "$@" $url/up/ -Q '-DELE new' >/dev/null && [ ! -e pub/up/new ] && echo deleted
    get "$@" $url/none
    echo "none: $?"
    return $rc
}

body() {
    local rc=0
    bytes 1500000 5 >data
    mkdir -p empty pub/up && cp data pub/ && echo mark-e2e-vsftpd-20b9 >pub/marker
    chmod 555 pub && chmod 777 pub/up
    conf >vsftpd.conf
    bg vsftpd $RUN vsftpd "$WORK/vsftpd.conf"
    listening 18740 || return 1
    session || rc=1
    session --disable-epsv || rc=1
    session --ftp-port 127.0.0.1 || rc=1
    return $rc
}
e2e
