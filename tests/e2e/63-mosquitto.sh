#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Mosquitto, an MQTT broker, and its clients: connections that live long and are quiet between, messages
# of 400 KB kept in the broker's queues for subscribers, acknowledged in every quality of service.
. "$(dirname "$0")/lib.sh"
need mosquitto mosquitto_pub mosquitto_sub
ports 18860
marker mark-e2e-mqtt-6b12
pair mosquitto_pub mosquitto
pair mosquitto_sub mosquitto

pub() { $RUN mosquitto_pub -p 18860 "$@"; }
sub() { $RUN mosquitto_sub -p 18860 "$@"; }

body() {
    local rc=0 q first second i
    bytes 300000 3 | base64 -w0 >data
    printf 'listener 18860 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\n' >broker.conf
    bg broker $RUN mosquitto -c broker.conf
    listening 18860 || return 1
    for q in 0 1 2; do
        pub -t kept/$q -r -m "mark-e2e-mqtt-6b12 $q" -q $q || rc=1
    done
    sub -t 'kept/#' -C 3 -q 2 -v || rc=1
    # That its subscriptions hold is shown by the first message, which the broker has kept.
    bg first $RUN mosquitto_sub -p 18860 -t 'big/#' -t kept/1 -C 51 -q 1
    first=$BG
    bg second $RUN mosquitto_sub -p 18860 -t 'big/#' -t kept/2 -C 51 -q 2
    second=$BG
    until_ok 20 grep -q mark first.log
    until_ok 20 grep -q mark second.log
    for ((i = 0; i < 50; i++)); do
        cat data
        echo " $i"
    done >lines
    pub -t big/x -l -q 1 <lines || rc=1
    wait "$first" && wait "$second" || rc=1
    tail -n +2 first.log | cmp - lines && echo 'first: same' || rc=1
    tail -n +2 second.log | cmp - lines && echo 'second: same' || rc=1
    sub -t nothing -W 1
    echo "nothing came: $?"
    pub -p 18861 -t x -m y # nobody listens there
    echo "refused: $?"
    return $rc
}
e2e
