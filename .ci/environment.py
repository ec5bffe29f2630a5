"""Create or renew .venv from requirements.lock, with nothing but the standard library.

The environment is stale when the lock, pyproject.toml or the interpreter has changed since it was filled. Written for
any Python 3, so that an old one gets a sentence and not a syntax error.
"""

import hashlib
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "fingerprint")


def fingerprint():
    """Hash of everything the environment is made from."""
    digest = hashlib.sha256(sys.version.encode())
    digest.update(VENV.encode())
    for name in ("requirements.lock", "pyproject.toml"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def is_current(expected):
    """Whether .venv was completely filled from the present lock and still has its interpreter."""
    try:
        with open(STAMP) as file:
            return file.read() == expected and os.path.exists(os.path.join(VENV, "bin", "python"))
    except OSError:
        return False


def fill(expected):
    """Make .venv anew and install the locked packages and this project into it."""
    if os.path.exists(VENV):
        shutil.rmtree(VENV)
    print("Setting up .venv (about a minute) ...", flush=True)
    if subprocess.call([sys.executable, "-m", "venv", VENV], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        # A Python without ensurepip: pip from outside fills the environment.
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", VENV])
        pip = [sys.executable, "-m", "pip", "--python", os.path.join(VENV, "bin", "python")]
    else:
        pip = [os.path.join(VENV, "bin", "python"), "-m", "pip"]
    install = pip + ["install", "--quiet", "--disable-pip-version-check"]
    subprocess.check_call(install + ["--require-hashes", "-r", os.path.join(ROOT, "requirements.lock")])
    subprocess.check_call(install + ["--no-deps", "-e", ROOT])
    with open(STAMP, "w") as file:
        file.write(expected)


def main():
    """Fill .venv unless it is current; a second caller waits for the first."""
    if sys.version_info < (3, 11):
        sys.exit("Python 3.11 or newer is needed; this is {}.{}: say make PYTHON=python3.11.".format(*sys.version_info))
    expected = fingerprint()
    if is_current(expected):
        return
    import fcntl

    os.makedirs(os.path.join(ROOT, "build"), exist_ok=True)
    with open(os.path.join(ROOT, "build", "environment.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_current(expected):
            return
        try:
            fill(expected)
        except subprocess.CalledProcessError as error:
            sys.exit("Setting up .venv failed: `{}` exited with {}.".format(" ".join(error.cmd), error.returncode))


if __name__ == "__main__":
    main()
