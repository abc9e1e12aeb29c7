"""Makes the database of a JupyterHub, by JupyterHub's own code. Prints its tokens as JSON.

Run by the tests with the interpreter that has the official jupyterhub: `make_jupyterhub.py DATABASE`.
"""

import json
import sys

from jupyterhub import orm, roles

db = orm.new_session_factory(f"sqlite:///{sys.argv[1]}")()
for role in roles.get_default_roles():
    roles.create_role(db, role)
roles.create_role(db, {"name": "teachers", "scopes": ["list:users"], "description": "may see who is there"})

ada, ben = orm.User(name="ada", admin=True), orm.User(name="Ben.O'Neil+1")
class_, empty = orm.Group(name="class", properties={"room": 7}), orm.Group(name="nobody")
service = orm.Service(name="announcements", url="http://127.0.0.1:1")
db.add_all([ada, ben, class_, empty, service, orm.OAuthClient(identifier="jupyterhub")])
class_.users.extend([ada, ben])
roles.assign_default_roles(db, ada)
roles.assign_default_roles(db, ben)
db.add(orm.Spawner(user=ada, name=""))
gpu = orm.Spawner(user=ada, name="gpu", display_name="The big one", user_options={"profile": "gpu"})
db.add(gpu)
# What JupyterHub before 6 took, and 6 still starts: any name of a server, or of a group.
db.add_all(
    [orm.Spawner(user=ben, name="My Server"), orm.Spawner(user=ben, name="a/b"), orm.Group(name="x/y")]
)
db.commit()

tokens = {
    "ada": ada.new_api_token(note="laptop"),
    "ada-narrow": ada.new_api_token(note="narrow", scopes=["list:users"]),
    "ada-none": ada.new_api_token(note="none", scopes=[]),
    "ben": ben.new_api_token(note="mine", expires_in=86400),
    "ben-chosen": ben.new_api_token("a-token-of-my-own-choice", note="chosen", generated=False),
}
ben.new_api_token(note="Server at /user/ben/")
service.new_api_token(note="of the service")
access = ["access:servers!server=ada/gpu"]
orm.Share.grant(db, gpu, ben, access)
orm.Share.grant(db, gpu, class_, [*access, "read:servers!server=ada/gpu"])
orm.Share.grant(db, gpu, empty, [*access, "users:activity!server=ada/gpu"])
_, tokens["code"] = orm.ShareCode.new(db, gpu, scopes=access)
db.close()
print(json.dumps(tokens))
