"""The command ``doctor``: says what keeps a service from fulfilling Dockerflow, and what to do.

It looks at an app that it imports (`dockerflow_wsgi.doctor.app`), or at services that run
(`dockerflow_wsgi.doctor.service`). It changes nothing and shows no secret.
"""
