import logging
import os
import signal
import threading
import time
from logging.handlers import BufferingHandler

import pytest

from pipeline.cluster import connect
from pipeline.interrupts import interrupts_held


@pytest.mark.usefixtures("answers_ctrl_c")
def test_an_interrupt_before_a_call_has_begun_logs_no_traceback():
    log, heard = logging.getLogger("tornado.application"), BufferingHandler(100)
    log.addHandler(heard)
    me = threading.get_ident()

    def interrupt() -> None:
        time.sleep(0.2)  # the call waits behind this
        signal.pthread_kill(me, signal.SIGINT)
        time.sleep(0.2)

    try:
        with connect(None, 1) as client:
            assert client.loop is not None
            client.loop.add_callback(interrupt)
            with pytest.raises(KeyboardInterrupt):
                client.nthreads()
            assert client.nthreads()
            assert not heard.buffer
            client.loop.add_callback(int, "no number")
            assert client.nthreads()
            assert "invalid literal" in str(heard.buffer[0].exc_info)
    finally:
        log.removeHandler(heard)


@pytest.mark.usefixtures("answers_ctrl_c")
def test_an_interrupt_waits_until_the_body_has_ended():
    done = []

    def body() -> None:
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all of it")
        done.append("not reached")

    with pytest.raises(KeyboardInterrupt):
        body()
    assert done == ["all of it"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
