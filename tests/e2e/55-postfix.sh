#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Postfix receives mail by SMTP: master passes its listener on to smtpd processes (exec, unprivileged,
# chroot as Debian has it), which serve one session after the other; the queue and delivery run on Unix
# sockets beside it. And Postfix's own smtp client sends a message on to a second port.
. "$(dirname "$0")/lib.sh"
need postfix postqueue python3.11 swaks
ports 18750 18751
marker mark-e2e-postfix-6b2d
pair python3.11 smtpd
pair perl smtpd # swaks
pair smtp python3.11

conf() {
    mkdir -p etc queue data box && chmod 755 etc queue data box
    chown postfix data && chown nobody box
    cp /etc/postfix/dynamicmaps.cf etc/ 2>/dev/null
    cp /etc/postfix/postfix-files etc/ 2>/dev/null
    ln -s /etc/postfix/postfix-files.d etc/ 2>/dev/null
    printf '%s\n' 'compatibility_level = 3.6' "queue_directory = $WORK/queue" \
        "data_directory = $WORK/data" 'command_directory = /usr/sbin' \
        'daemon_directory = /usr/lib/postfix/sbin' 'mail_owner = postfix' 'setgid_group = postdrop' \
        'myhostname = mail.example.org' 'mydestination =' 'inet_interfaces = 127.0.0.1' \
        'inet_protocols = ipv4' 'mynetworks = 127.0.0.0/8' 'alias_maps =' 'alias_database =' \
        'local_recipient_maps =' 'local_transport = error:none' 'biff = no' "maillog_file = $WORK/mail.log" \
        "maillog_file_prefixes = $WORK" 'virtual_mailbox_domains = example.org' \
        "virtual_mailbox_base = $WORK/box" 'virtual_mailbox_maps = inline:{one@example.org=one, two@example.org=two}' \
        'virtual_uid_maps = static:65534' 'virtual_gid_maps = static:65534' \
        'virtual_minimum_uid = 100' 'relay_domains = relay.example' \
        'transport_maps = inline:{relay.example=smtp:[127.0.0.1]:18751}' 'smtpd_tls_security_level = none' \
        'smtp_tls_security_level = none' 'smtpd_relay_restrictions = permit_auth_destination, reject' \
        'smtputf8_enable = no' >etc/main.cf
    sed 's/^smtp  *inet /127.0.0.1:18750 inet /' /etc/postfix/master.cf >etc/master.cf
}

programs() {
    cat >send.py <<'END'
import smtplib, sys
text = open('text').read()
with smtplib.SMTP('127.0.0.1', 18750, timeout=60) as s:
    print(*s.ehlo('client.example.org')[:1], 'pipelining' in s.esmtp_features)
    for n, to in enumerate(('one@example.org', 'two@example.org', 'three@relay.example')):
        body = 'Subject: %d\r\n\r\nmark-e2e-postfix-6b2d\r\n%s' % (n, text if n else '')
        print(s.sendmail('me@example.org', [to], body))
    try:
        s.sendmail('me@example.org', ['x@elsewhere.example.'], 'none')
    except smtplib.SMTPRecipientsRefused as e:
        print('refused', [c for c, _ in e.recipients.values()])
    print(s.noop()[0], s.rset()[0])
END
    cat >sink.py <<'END'
import hashlib, itertools, os, socket
def serve(f, n):
    def say(line):
        f.write(line + b'\r\n')
        f.flush()
    say(b'220 sink')
    while line := f.readline():
        word = line[:4].upper()
        if word == b'DATA':
            say(b'354 go on')
            body = []
            while (line := f.readline()) != b'.\r\n':
                body.append(line)
            body = b''.join(body).split(b'\r\n\r\n', 1)[1]
            with open('new', 'w') as out:
                print(len(body), hashlib.sha256(body).hexdigest()[:16], file=out)
            os.rename('new', 'sunk.%d' % n)
        say(b'221 bye' if word == b'QUIT' else b'250 ok')
listener = socket.create_server(('127.0.0.1', 18751))
for n in itertools.count(1):
    s, _ = listener.accept()
    try:
        with s, s.makefile('rwb') as f:
            serve(f, n)
    except ConnectionError:
        pass # who says QUIT does not wait for the answer
END
}

delivered() {
    [ "$(grep -c mark-e2e box/one)$(grep -c mark-e2e box/two)" = 32 ] && [ -s sunk.2 ]
}

body() {
    local rc=0
    base64 -w 70 <(bytes 500000 5) >text
    conf && programs
    postfix -c "$WORK/etc" check || return 1
    bg sink $RUN python3.11 sink.py
    listening 18751 || return 1
    bg master $RUN /usr/lib/postfix/sbin/master -c "$WORK/etc" -d
    listening 18750 || return 1
    $RUN python3.11 send.py || rc=1
    $RUN python3.11 send.py || rc=1
    $RUN swaks --silent 3 --server 127.0.0.1 --port 18750 --ehlo client.example.org \
        --from me@example.org --to one@example.org --body 'mark-e2e-postfix-6b2d from swaks' || rc=1
    until_ok 30 delivered || rc=1
    cat sunk.1 sunk.2
    sed '/^Received/,/^Date/d; /^From/d; /^Message-Id/d' box/two | sum
    return $rc
}
e2e
