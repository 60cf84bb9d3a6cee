#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""cpython.py MODULE...: runs modules of CPython's own test package; prints the tests that pass.

Prints one line `pass ID` for each test that passes, sorted, and all others on stderr. A test that
fails or hangs gets two more tries in a fresh process: bare ones fail now and then too. Tests that cpython-exceptions
names (or whose class it names) are not run. The tests run in children, with $RUN (if any) in front of the interpreter; this process stays bare.
"""
import collections, faulthandler, os, subprocess, sys, tempfile, unittest

ONE_TEST = 60                         # seconds for one test before its process is given up
RESOURCES = ['network', 'subprocess', 'cpu', 'walltime']   # network: sockets, loopback here


class Recorder(unittest.TestResult):
    def __init__(self, out):
        super().__init__()
        self.out = out
        self.failed = set()

    def note(self, outcome, test):
        os.write(self.out, ('%s %s\n' % (outcome, test.id())).encode())

    def startTest(self, test):
        faulthandler.dump_traceback_later(ONE_TEST, exit=True)
        self.note('start', test)

    def stopTest(self, test):
        faulthandler.cancel_dump_traceback_later()

    def addSuccess(self, test):
        if test.id() not in self.failed:
            self.note('pass', test)

    def bad(self, test, err):
        self.failed.add(test.id())
        print(test.id(), self._exc_info_to_string(err, test), file=sys.stderr, flush=True)
        self.note('fail', test)

    addError = addFailure = bad

    def addSubTest(self, test, subtest, err):
        if err:
            self.bad(test, err)

    def addSkip(self, test, reason):
        self.note('skip', test)

    def addExpectedFailure(self, test, err):
        self.note('pass', test)

    def addUnexpectedSuccess(self, test):
        self.note('fail', test)


def exceptions():
    """What cpython-exceptions names; a line without a reason is an error."""
    names = set()
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'cpython-exceptions')) as f:
        for line in f:
            if line.strip() and not line.startswith('#'):
                name, reason = line.split(None, 1)
                names.add(name)
    return names


def tests_of(suite):
    for t in suite:
        if isinstance(t, unittest.TestSuite):
            yield from tests_of(t)
        else:
            yield t


def child(module, results, done, only):
    import random
    import test.support
    random.seed(1)
    test.support.use_resources = RESOURCES
    test.support.verbose = 0
    with open(done) as f:
        done = set(f.read().split())
    with open(only) as f:
        only = set(f.read().split())
    never = exceptions()
    suite = unittest.TestSuite()
    for t in tests_of(unittest.defaultTestLoader.loadTestsFromName(module)):
        if {t.id(), t.id().rpartition('.')[0]} & never:
            continue
        if t.id() not in done and (not only or t.id() in only):
            suite.addTest(t)
    rec = Recorder(os.open(results, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    os.chdir(tempfile.mkdtemp())
    suite.run(rec)
    for kind, err in rec.errors:
        print(kind, err, file=sys.stderr)
    os._exit(0)                       # non-daemon threads of failed tests would keep us


def run_module(module, outcome, only):
    """Runs what is not yet in outcome; a process that hangs is followed by one without the test."""
    work = tempfile.mkdtemp()
    done = set()
    while True:
        names = [os.path.join(work, n) for n in ('results', 'done', 'only')]
        for path, ids in zip(names, ((), done, only)):
            with open(path, 'w') as f:
                f.write('\n'.join(ids))
        cmd = os.environ.get('RUN', '').split() + [sys.executable, __file__, '--child', module] + names
        try:
            rc = subprocess.call(cmd, stdin=subprocess.DEVNULL, stdout=2, timeout=900)
        except subprocess.TimeoutExpired:
            rc = -9
        last = None
        with open(names[0]) as f:
            for line in f:
                what, _, name = line.rstrip('\n').partition(' ')
                done.add(name)
                if what == 'start':
                    last = name
                elif outcome.get(name) != 'fail' or what == 'fail' or only:
                    outcome[name] = what
                    last = None if name == last else last
        if rc == 0:
            return
        if last is None:
            outcome['%s (process ended with %d)' % (module, rc)] = 'fail'
            return
        outcome[last] = 'fail'
        print('%s: hung or killed the process (%d)' % (last, rc), file=sys.stderr)


def main(modules):
    everything = {}
    for module in modules:
        outcome = {}
        run_module(module, outcome, set())
        for _ in range(2):
            bad = {n for n, o in outcome.items() if o == 'fail'}
            if bad:
                run_module(module, outcome, bad)
        everything.update(outcome)
        print(module, dict(collections.Counter(outcome.values())), file=sys.stderr)
    for name in sorted(everything):
        if everything[name] == 'pass':
            print('pass', name)
        else:
            print(everything[name], name, file=sys.stderr)


if __name__ == '__main__':
    if sys.argv[1] == '--child':
        child(*sys.argv[2:])
    main(sys.argv[1:])
