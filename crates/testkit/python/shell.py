"""Runs command lines of a Python client, each in a process of its own that finds all modules loaded: starting the client
anew would take seconds each time.

The arguments are the program's name and its entry point, as the console script has it: `openstack
openstackclient.shell:main`. Each line on standard input is a JSON object, `{"arguments": [...], "environment": {...}}`; each line on standard output tells how it ended,
`{"code": 0, "out": "...", "err": "..."}`.
"""

import importlib
import json
import os
import sys
import tempfile


def load(entry):
    module, function = entry.split(":")
    return getattr(importlib.import_module(module), function)


def run(main, name, command):
    """Ends the process as the console script would."""
    os.environ.update(command["environment"])
    sys.argv = [name, *command["arguments"]]
    # Told, because neutronclient looks at sys.argv while it is loaded.
    sys.exit(main(command["arguments"]))


def finish(main, name, command):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, tempfile.TemporaryFile() as loaded:
        child = os.fork()
        if child == 0:
            before = set(sys.modules)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            code = 1
            try:
                run(main, name, command)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
            finally:
                loaded.write("\n".join(set(sys.modules) - before).encode())
                loaded.flush()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        # What the client loads on demand is loaded here for the commands to come.
        for module in read(loaded).splitlines():
            try:
                importlib.import_module(module)
            except Exception:
                pass
        return {"code": os.waitstatus_to_exitcode(status), "out": read(out), "err": read(err)}


def read(file):
    file.seek(0)
    return file.read().decode()


def main():
    name, entry = sys.argv[1:]
    # Some read while they are loaded what they are called.
    sys.argv = [name]
    client = load(entry)
    # Whatever a module prints while it is loaded must not look like an answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        print(json.dumps(finish(client, name, json.loads(line))), file=answers, flush=True)


main()
