"""Test cases that run as they are defined, each within a deadline, and say what came of them."""
import signal, sys, traceback

passed = failed = 0


def late(*_):
    raise TimeoutError("deadline")


signal.signal(signal.SIGALRM, late)


def attempt(function, *arguments, deadline=60):
    """Runs a case now, within so many seconds; its name is its doc string."""
    global passed, failed
    signal.alarm(deadline)
    try:
        function(*arguments)
        passed += 1
        print("ok -", function.__doc__, flush=True)
    except BaseException as error:
        failed += 1
        print("not ok -", function.__doc__)
        print("  #", "".join(traceback.format_exception_only(type(error), error)).strip().replace("\n", "\n  # "))
        for frame in traceback.extract_tb(error.__traceback__)[1:]:
            print("  #", f"{frame.filename}:{frame.lineno} {frame.line}", flush=True)
    finally:
        signal.alarm(0)


def finish():
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)
