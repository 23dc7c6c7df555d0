"""The command ``doctor``: reports what keeps a service from complying with Dockerflow.

`command` has the options, `isolation` runs the steps in a process of their own, `app_steps`,
`url_steps` and `services` have the steps, `diagnosis` their results, `output` the report.
"""
