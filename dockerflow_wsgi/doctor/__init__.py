"""The command ``doctor``: reports what keeps a service from complying with Dockerflow.

`command` has the options, `app_steps`, `url_steps` and `services` have the steps, `diagnosis` their
results, `output` the report; `isolation` runs the steps of an app in a separate process.
"""
