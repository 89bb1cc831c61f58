"""`fleetmeter demo`: every part on sample input, from nothing to a firing alert, with one command.

The parts are the real ones, started by the supervisor as a user would start them. What is sample is the input: a
simulated fleet whose past is landed in bulk and whose present arrives over OTLP, and a real vLLM server's recording.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from functools import partial
from typing import TypeVar

import click

from collector.client import HttpClient
from stack.demo_input import Door, LiveFleet, land_past, replay_recording, utc_now
from stack.demo_plan import DemoConfig, parts, prepare
from stack.demo_summary import summarise
from stack.errors import StackError
from stack.interrupts import exit_code, ignore_interrupts, interruptible
from stack.ports import require_free
from stack.supervisor import Supervisor

T = TypeVar("T")
LIVE_SECONDS = 2.0
GUIDE = """
  boards       {board}
               On-call: llama-3.3-70b since its deploy about an hour ago; SLOs: what spends the budget
               Drift: the cached share; Cost review: one team's last three days, and what idled
  alerts       {alerts}/api/v1/alerts     (what fires is printed here as the webhook receiver gets it)
  collector    {api}     fleetmeter query --url {api} "SELECT team, count(*) FROM requests GROUP BY team"
  OTLP         {otlp} (HTTP), 127.0.0.1:{grpc} (gRPC)
  files        {folder}: configuration, logs, data

Ctrl-C ends everything.
"""


class Demo:
    """One run of the demo."""

    def __init__(self, config: DemoConfig, tell: Callable[[str], None]) -> None:
        self.config = config
        self.tell = tell
        self.parts = parts(config)
        self.supervisor = Supervisor(config.data_dir / "logs", tell)

    def run(self, *, once: bool) -> int:
        """Load, show, stay live until interrupted; with `once` load, evaluate, print a summary and end.

        Returns:
            The exit code: 0, also where SIGTERM ended it, or 130 where Ctrl-C did.

        Raises:
            ConfigurationError: a port is taken, the folder is somebody's, a part can't start.
        """
        require_free(self.config.ports, advice="end what listens there, or take other ports with --ports-from 20000")
        prepare(self.config)
        if once:  # stdout is the summary's alone
            self.supervisor.visible_descriptor = sys.stderr.fileno()
        with interruptible():
            try:
                self.tell(f"simulating {self.config.days} days of a fleet while the parts start …")
                simulated = in_background(partial(LiveFleet, self.config.seed, self.config.days, utc_now()))
                with closing(self.open()) as door:
                    live = self.load(door, simulated)
                    return self.evaluate_once(door) if once else self.stay(door, live)
            except KeyboardInterrupt as interruption:
                self.tell("ending …")
                return exit_code(interruption)
            finally:
                ignore_interrupts()
                self.supervisor.stop()

    def open(self) -> Door:
        """Start the collector, the webhook receiver and the dashboards; wait for the collector alone."""
        for name in ("collector", "webhook", "dashboards"):
            self.supervisor.start(self.parts[name])
        self.supervisor.wait_ready(self.parts["collector"])
        return Door(HttpClient(self.config.api_url), self.config.otlp_url, self.supervisor.tend)

    def load(self, door: Door, simulated: Future[LiveFleet]) -> LiveFleet:
        """Land the fleet's past and the recording, both ending now."""
        live = simulated.result()
        began = time.monotonic()
        landed = land_past(door, live.until(utc_now()))
        self.tell(f"landed {landed['requests']:,} requests and {landed['gpu_samples']:,} GPU samples")
        replayed = replay_recording(door, utc_now())
        self.tell(
            f"replayed {replayed} recorded bodies of a real vLLM server (landing took {time.monotonic() - began:.0f} s)"
        )
        return live

    def stay(self, door: Door, live: LiveFleet) -> int:
        """Show where to look, and keep the fleet live until interrupted."""
        for name in ("dashboards", "webhook"):
            self.supervisor.wait_ready(self.parts[name])
        self.supervisor.start(self.parts["alerts"])
        ports = self.config.ports
        self.tell(
            GUIDE.format(
                board=self.config.board_url,
                alerts=self.config.alerts_url,
                api=self.config.api_url,
                otlp=self.config.otlp_url,
                grpc=ports.otlp_grpc,
                folder=self.config.data_dir,
            )
        )
        if self.config.browser and has_screen():
            webbrowser.open(self.config.board_url)
        while True:
            self.supervisor.tend()
            live.send(door, utc_now())
            time.sleep(LIVE_SECONDS)

    def evaluate_once(self, door: Door) -> int:
        """Evaluate every rule once, deliver what fires, print the summary as JSON on stdout."""
        self.supervisor.wait_ready(self.parts["webhook"])
        self.supervisor.wait_ready(self.parts["dashboards"])
        evaluation = subprocess.run(
            [sys.executable, "-P", "-m", "fleetmeter", *self.parts["alerts"].arguments, "--once"],
            capture_output=True,
            text=True,
            check=False,
        )
        if evaluation.returncode not in (0, 1):
            raise StackError(f"the alert rules could not be evaluated: {evaluation.stderr.strip()}")
        click.echo(json.dumps(summarise(door.client, self.config, utc_now()), indent=2))
        return 0


def in_background(work: Callable[[], T]) -> Future[T]:
    """Do something in a thread that an interruption does not wait for."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=run, name="background", daemon=True).start()
    return future


def has_screen() -> bool:
    """Whether a browser could show itself: on a server `webbrowser` may start one that blocks the terminal."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
