"""A typical service: Flask-SQLAlchemy, Flask-Migrate, Flask-Redis and Flask-Login."""

import os

from dockerflow.flask import Dockerflow, checks
from flask import Flask, g
from flask_login import LoginManager, UserMixin, current_user, login_required, login_user
from flask_migrate import Migrate
from flask_redis import FlaskRedis
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()
redis_store = FlaskRedis()
login_manager = LoginManager()


class User(UserMixin, db.Model):
    """A user."""

    id = db.Column(db.Integer, primary_key=True)


@login_manager.user_loader
def load_user(user_id):
    """Load a user from the database."""
    return db.session.get(User, int(user_id))


class TodoDockerflow(Dockerflow):
    """Removes tokens and user agents from the summary."""

    def summary_extra(self):
        """Redact the path, and remove the agent."""
        out = super().summary_extra()
        out.pop("agent", None)
        if out["path"].startswith("/reset/"):
            out["path"] = "/reset/..."
        out["rid_again"] = out["rid"]
        return out


def create_app(directory, **config):
    """Make the app; its settings are set after the extensions."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{directory}/todo.sqlite"
    app.config["REDIS_URL"] = os.environ["REDIS_URL"]
    app.config["SECRET_KEY"] = "not secret"
    app.config.update({name: config.pop(name) for name in list(config) if "_UR" in name})
    db.init_app(app)
    migrate = Migrate(app, db, directory=f"{directory}/migrations")
    redis_store.init_app(app)
    login_manager.init_app(app)
    dockerflow = TodoDockerflow(
        app, db=db, redis=redis_store, migrate=migrate, version_path=str(directory),
        silenced_checks=["todo.W001"],
    )  # fmt: skip
    dockerflow.logger.setLevel("ERROR")
    app.config.update(config)

    @dockerflow.check
    def disk_has_space():
        problems = app.config.get("TODO_PROBLEMS", [])
        return [getattr(checks, kind)(text, id=name) for kind, text, name in problems]

    add_views(app)
    return app


def add_views(app):
    """Add the pages."""

    @app.route("/")
    def index():
        redis_store.incr("visits")
        return g.request_id

    @app.route("/login")
    def login():
        login_user(db.session.get(User, 1))
        return "welcome"

    @app.route("/me")
    @login_required
    def me():
        return current_user.get_id()

    @app.route("/reset/<token>")
    def reset(token):
        return f"reset {len(token)}"

    @app.route("/broken")
    def broken():
        raise ValueError("todo list is broken")
