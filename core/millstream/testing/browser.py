"""Which Chromium the browser tests drive, and how it is started."""

import shutil

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
REFUSE_STORAGE = """
Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("The operation is insecure.", "SecurityError"); },
});
"""
"""A script that makes the page's browser one that keeps nothing."""
REFUSE_SHARING = "delete window.SharedWorker;"
"""A script that makes each tab ask by itself: a worker's requests escape ``Page.route``."""


def find_chromium() -> str | None:
    """Return the path of an installed Chromium, or None when there is none."""
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


def chromium_arguments() -> list[str]:
    """Return the switches that make it run without a display, as root too, and offline."""
    return [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
