"""Makes the files of a Keystone: schema, keys, and who may log in. Runs in their directory, beside keystone.conf.

Arguments are `user project role`, as often as there are people; a person's password is `USER-password`. The first one is
the administrator that `keystone-manage bootstrap` makes. There is a service of type network, yet without an endpoint.
"""

import json
import os
import sqlite3
import sys

from keystone.cmd import cli

CONFIGURATION = "keystone.conf"


def manage(*arguments):
    """Runs keystone-manage in a process of its own: its options can be read once per process."""
    child = os.fork()
    if child == 0:
        cli.main(["keystone-manage", "--config-file", CONFIGURATION, *arguments])
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status != 0:
        sys.exit(f"keystone-manage {' '.join(arguments)}: {status}")


class Api:
    """The real API, asked without a socket."""

    def __init__(self, user, project):
        import webob
        from keystone.server.wsgi import initialize_public_application

        self.request = webob.Request
        self.application = initialize_public_application()
        domain = {"id": "default"}
        login = {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user, "domain": domain, "password": f"{user}-password"}},
            },
            "scope": {"project": {"name": project, "domain": domain}},
        }
        self.token = None
        self.token = self.ask("POST", "/v3/auth/tokens", {"auth": login}).headers["X-Subject-Token"]

    def ask(self, method, path, body=None):
        request = self.request.blank(path, method=method, content_type="application/json")
        if self.token:
            request.headers["X-Auth-Token"] = self.token
        if body is not None:
            request.body = json.dumps(body).encode()
        response = request.get_response(self.application)
        if response.status_int >= 300:
            sys.exit(f"{method} {path}: {response.status} {response.text}")
        return response

    def create(self, kind, **attributes):
        return self.ask("POST", f"/v3/{kind}s", {kind: attributes}).json[kind]["id"]


def main():
    people = [person.split() for person in sys.argv[1:]]
    for keys in ("tokens", "receipts", "credentials"):
        os.makedirs(keys, mode=0o700)
    owner = ("--keystone-user", "root", "--keystone-group", "root")
    # Kept by the file: nobody who reads keeps others from writing. Keystone finds its database locked otherwise.
    sqlite3.connect("keystone.db").execute("PRAGMA journal_mode=WAL")
    manage("db_sync")
    manage("fernet_setup", *owner)
    manage("credential_setup", *owner)
    administrator, project, _ = people[0]
    manage(
        "bootstrap",
        *("--bootstrap-username", administrator),
        *("--bootstrap-password", f"{administrator}-password"),
        *("--bootstrap-project-name", project),
    )
    os.environ["OS_KEYSTONE_CONFIG_FILES"] = CONFIGURATION
    # Keystone would take them for its own.
    del sys.argv[1:]
    api = Api(administrator, project)
    roles = {role["name"]: role["id"] for role in api.ask("GET", "/v3/roles").json["roles"]}
    for user, project, role in people[1:]:
        project = api.create("project", name=project, domain_id="default")
        user = api.create("user", name=user, domain_id="default", password=f"{user}-password")
        api.ask("PUT", f"/v3/projects/{project}/users/{user}/roles/{roles[role]}")
    api.create("service", type="network", name="l2gw")


main()
