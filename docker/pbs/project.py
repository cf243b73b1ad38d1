"""A hook of the testbed's server: hpcuser is a member of project ab12, and of no other."""

import pbs

event = pbs.event()
project = str(event.job.project or "")
# the last is what OpenPBS takes a job for that names none
if project not in ("", "ab12", "_pbs_project_default"):
    event.reject(f"You are not a member of project {project}. You must be a member of a project to charge it.")
