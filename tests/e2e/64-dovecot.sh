#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Dovecot as Debian configures its processes: imap-login, in a chroot and with a user of its own, accepts
# and logs in; then it passes the connection over a Unix socket to imap, which receives it as root and becomes
# the mailbox's user. Messages are stored, read, searched and waited for (IDLE); wrong passwords; sessions
# side by side.
. "$(dirname "$0")/lib.sh"
need dovecot curl python3.11
ports 18860
marker mark-e2e-dovecot-51c8
pair curl imap-login
pair python3.11 imap-login

conf() {
    local login=dovenull internal=dovecot mail=mail
    [ -n "$ROOT" ] || login=$(id -un) internal=$(id -un) mail=$(id -un)
    cat <<C
base_dir = $WORK/run-dovecot
state_dir = $WORK/state-dovecot
log_path = $WORK/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_login_user = $login
default_internal_user = $internal
default_internal_group = $(id -gn "$internal")
first_valid_uid = 1
mail_location = maildir:$WORK/mail/%u
passdb {
  driver = static
  args = password=secret
}
userdb {
  driver = static
  args = uid=$mail gid=$(id -gn "$mail") home=$WORK/mail/%u
}
service imap-login {
  inet_listener imap {
    port = 18860
  }
  inet_listener imaps {
    port = 0
  }
}
C
}

URL=imap://127.0.0.1:18860/INBOX
imap() { $RUN curl -sS --max-time 60 -u "$1:secret" "${@:2}"; }

message() {
    printf 'Subject: %s\r\nFrom: joe@example.com\r\n\r\n' "$1"
    bytes "$2" 7 | base64 | sed 's/$/\r/'
}

body() {
    local rc=0 u pids=()
    conf >dovecot.conf
    mkdir mail && chmod 777 mail
    bg dovecot $RUN dovecot -F -c "$WORK/dovecot.conf"
    listening 18860 || return 1
    message mark-e2e-dovecot-51c8 100000 >one
    message second 500 >two
    imap joe -T one $URL && imap joe -T two $URL && echo stored
    imap joe "$URL;MAILINDEX=1" | cmp - one && echo 'fetched: same' || rc=1
    imap joe $URL -X 'SEARCH SUBJECT second'
    $RUN curl -sS --max-time 60 -u joe:wrong $URL -X NOOP
    echo "wrong password: $?"
    for u in a b c d e f; do
        imap $u -T one "$URL" && imap $u "$URL;MAILINDEX=1" | cmp - one && echo ok >"done.$u" &
        pids+=($!)
    done
    wait "${pids[@]}"
    cat done.* | wc -l
    $RUN python3.11 - <<'P' || rc=1
import imaplib
waiting = imaplib.IMAP4("127.0.0.1", 18860)
waiting.login("joe", "secret")
print(waiting.select())
waiting.send(b"X1 IDLE\r\n")
print(waiting.readline())
other = imaplib.IMAP4("127.0.0.1", 18860)
other.login("joe", "secret")
print(other.append("INBOX", None, None, b"Subject: third\r\n\r\nhello\r\n")[0])
print(other.logout()[0])
print(waiting.readline())
waiting.send(b"DONE\r\n")
while not (line := waiting.readline()).startswith(b"X1"):
    pass
print(line[:5])
print(waiting.logout()[0])
P
    return $rc
}
e2e
