"""Redaction: two lists of texts as drivers, SDKs, proxies and frameworks print them."""

# ruff: noqa: E501 - the texts are as long as programs print them

from __future__ import annotations

import io
import logging
import subprocess
import sys
import time

import pytest
import redis
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool
from werkzeug.test import Client

from dockerflow_wsgi import DockerflowMiddleware
from dockerflow_wsgi.errors import format_traceback
from dockerflow_wsgi.logging import MozlogHandler
from dockerflow_wsgi.redaction import MAX_LENGTH, format_error, redact, safe_str, truncate

HIDDEN = [
    # URLs and connection strings.
    "postgresql://ada:S3CRET@db:5432/x",
    "redis://:S3CRET@cache/0",
    "redis://S3CRET@cache/0",
    "fatal: unable to access 'https://S3CRET@github.com/acme/app.git/': 403",
    "postgresql+psycopg://a:S3CRET/c@r3t@db/x",
    "redis://:x,S3CRET@a,redis://:S3CRET@b",
    "not a URL: postgresql://ada:pass S3CRET@db/x",
    "Could not parse: 'postgresql:/ada:S3CRET@db'",
    "create_engine('postgresql://ada:S3CRET/x')",
    '{"broker":"amqp:\\/\\/ada:S3CRET@mq\\/v"}',
    "next=redis%3A%2F%2F%3AS3CRET%40cache%2F0",
    "Port could not be cast to integer value as 'S3CRET'",
    "failed to resolve host 'S3CRET@db': [Errno -2] Name or service not known",
    'could not translate host name "x S3CRET@db" to address: Name or service not known',
    "(2003, \"Can't connect to MySQL server on 'S3CRET@db' ([Errno -2] Name or service not known)\")",
    "Error -2 connecting to S3CRET@cache:6379. Name or service not known.",
    "host=db user=ada password=S3CRET dbname=x",
    "user=ada password='a b S3CRET' dbname=x",
    r"user=ada password='it\'s S3CRET' dbname=x",
    "Driver={ODBC Driver 18 for SQL Server};Server=db;UID=ada;PWD=S3CRET;Encrypt=yes",
    "PWD={a;S3CRET};UID=ada",
    "odbc_connect=DRIVER%3Dx%3BPWD%3DS3CRET%3BUID%3Dada",
    "Server=db;User Id=ada;Password=S3CRET;Trusted_Connection=False",
    "cache.example.net:6380,password=S3CRET,ssl=True,abortConnect=False",
    "AccountName=acme;AccountKey=S3CRET;EndpointSuffix=core.windows.net",
    "Endpoint=sb://acme.net/;SharedAccessKeyName=Root;SharedAccessKey=S3CRET=",
    # Environment and configuration.
    "AWS_SECRET_ACCESS_KEY=S3CRET",
    "SECRET_KEY=S3CRET",
    "PGPASSWORD=S3CRET psql",
    "export DB_PASS=S3CRET",
    "KeyError in environ({'MYSQL_ROOT_PASSWORD': 'S3CRET', 'HOME': '/app'})",
    "datasource:\n  password: S3CRET\n  user: ada",
    'dbPassword: "S3CRET"',
    "client_secret: |\n  S3CRET\nuser: ada",
    "- name: DB_PASSWORD\n  value: S3CRET",
    "spring.datasource.password=S3CRET",
    'sasl.jaas.config=PlainLoginModule required username="ada" password="S3CRET";',
    "//registry.npmjs.org/:_authToken=S3CRET",
    "machine example.com login ada password S3CRET",
    "requirepass S3CRET",
    # JSON, repr and other languages.
    '{"password": "S3CRET", "user": "ada"}',
    '{"password": "a\\"S3CRET", "user": "ada"}',
    '{"body": "{\\"password\\": \\"S3CRET\\", \\"user\\": \\"ada\\"}"}',
    '"{\\\\\\"api_key\\\\\\": \\\\\\"S3CRET\\\\\\"}"',
    "{'api_key': 'S3CRET', 'access_token': 'S3CRET', 'client_secret': 'S3CRET'}",
    "connect(host='db', password=b'S3CRET', port=5432)",
    "User(name='ada', password_hash='S3CRET')",
    "<QueryDict: {'password': ['S3CRET'], 'user': ['ada']}>",
    '{"name":"DB_PASSWORD","value":"S3CRET"}',
    '{"pin":1,"password":12345678S3CRET,"x":2}',
    '{:password=>"S3CRET", :user=>"ada"}',
    "&{User:ada Password:S3CRET Port:5432}",
    "<password>S3CRET</password>",
    '<wsse:Password Type="text">S3CRET</wsse:Password>',
    "<SecretAccessKey>S3CRET</SecretAccessKey><Expiration>2026</Expiration>",
    '<add key="ApiKey" value="S3CRET" />',
    # Headers.
    "Authorization: Bearer S3CRET",
    "Authorization: Basic S3CRET==",
    "> authorization: token S3CRET",
    "{'Authorization': 'Bearer S3CRET', 'Accept': '*/*'}",
    "[(b'authorization', b'Bearer S3CRET'), (b'accept', b'*/*')]",
    "Authorization: AWS4-HMAC-SHA256 Credential=AKIA/x, SignedHeaders=host, Signature=S3CRET",
    'Authorization: Digest username="ada", response="S3CRET"',
    "rejected Bearer S3CRET: expired",
    "X-Api-Key: S3CRET",
    "'X-Auth-Token': 'S3CRET'",
    "Ocp-Apim-Subscription-Key: S3CRET",
    "X-Vault-Token: S3CRET",
    "Cookie: theme=dark; sessionid=S3CRET",
    "Set-Cookie: sid=S3CRET; Path=/; HttpOnly",
    "'HTTP_COOKIE': 'a=b; sessionid=S3CRET', 'HTTP_HOST': 'x'",
    "<RequestsCookieJar[<Cookie sid=S3CRET for example.com/>]>",
    # Query strings and forms.
    "GET /login?user=ada&password=S3CRET&next=/ 401",
    "/oauth?access_token=S3CRET&state=1",
    "https://acme.blob.core.windows.net/c?sv=2024&sig=S3CRET%3D&se=2026",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential=S3CRET%2F2026&X-Amz-Signature=S3CRET0123456789&x=1",
    "https://maps.example.com/api?key=AIzaS3CRET0123456789&q=x",
    "user%5Bpassword%5D=S3CRET&commit=1",
    'Content-Disposition: form-data; name="password"\r\n\r\nS3CRET\r\n--x',
    # SQL and commands.
    "ALTER ROLE ada WITH PASSWORD 'S3CRET'",
    "CREATE USER 'ada'@'%' IDENTIFIED BY 'S3CRET'",
    "CREATE USER ada IDENTIFIED WITH mysql_native_password BY 'S3CRET'",
    "SET PASSWORD FOR 'ada'@'h' = PASSWORD('S3CRET')",
    "CREATE LOGIN ada WITH PASSWORD = N'S3CRET'",
    "UPDATE users SET password='it''s S3CRET' WHERE id=1",
    "unknown command `AUTH`, with args beginning with: `ada`, `S3CRET`",
    'MONITOR: 1700000000.1 [0 127.0.0.1:5] "AUTH" "S3CRET"',
    "mysqldump --password=S3CRET db",
    "tool --token S3CRET --verbose",
    "Command '['mysql', '-uroot', '-pS3CRET', 'db']' returned non-zero exit status 1.",
    "Command '['x', '--db-password', 'S3CRET', '-v']' returned non-zero exit status 1.",
    "redis-cli -h cache -a S3CRET ping",
    "curl -s -u ada:S3CRET https://example.com",
    "sshpass -p S3CRET ssh host",
    # Keys and tokens of known forms.
    "-----BEGIN RSA PRIVATE KEY-----\nMIIS3CRET\nS3CRET==\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\\nMIIS3CRET",
    "-----BEGIN OPENSSH PRIVATE KEY-----\nS3CRET",
    "token rejected: eyJhbGciOiJIUzI1NiJ9.S3CRET.S3CRET",
    "remote: ghp_S3CRET0123456789 is not valid",
    "https://hooks.slack.com/services/T000/B000/S3CRET",
    "auth=('ada', 'S3CRET')",
    '{"auths": {"ghcr.io": {"auth": "S3CRET"}}}',
    # Parts of statements and parameters in messages of databases, and what else real programs print.
    "unrecognized role option \"pasword\"\nLINE 1: ALTER ROLE ada PASWORD 'S3CRET'\n                       ^",
    "DETAIL:  Key (token)=(S3CRET) already exists.",
    'DETAIL:  Key (lower(mail))=(S3CRET) is not present in table "users".',
    "DETAIL:  Failing row contains (null, S3CRET).",
    "(1062, \"Duplicate entry 'S3CRET' for key 'users.mail'\")",
    "Command '['http', '-u', 'ada:S3CRET']' returned non-zero exit status 1.",
    "No connection adapters were found for 'ada:S3CRET@127.0.0.1:3128'",
    "Invalid URL 'ada:S3CRET@proxy:3128': No scheme supplied",
    "Invalid port: 'S3CRET'",
    'missing "=" after "S3CRET" in connection info string',
    "token\n  Input should be a valid integer [type=int_parsing, input_value='S3CRET', input_type=str]",
    # Further forms.
    "pymongo.errors.OperationFailure: mongodb+srv://ada:S3CRET@c0.example.net/?retryWrites=true",
    "mongodb://ada:S3CRET@h1:27017,h2:27017/db?replicaSet=rs0",
    "clickhouse://default:S3CRET@ch/db",
    "jdbc:postgresql://db:5432/x?user=ada&password=S3CRET",
    "jdbc:sqlserver://db:1433;user=ada;password=S3CRET;encrypt=true",
    "jdbc:oracle:thin:scott/S3CRET@//db:1521/x",
    "snowflake://ada:S3CRET@acct/db/schema?warehouse=w",
    "Error: connect smtps://ada%40x.com:S3CRET@smtp.example.com:465",
    "ldap://cn=admin,dc=x:S3CRET@ldap",
    "socks5://ada:S3CRET@proxy:1080",
    "HTTPSConnectionPool(host='x.test', port=443): Max retries exceeded with url: /v1?api_key=S3CRET&q=1 (Caused by NewConnectionError('...'))",
    "ProxyError('Cannot connect to proxy http://ada:S3CRET@proxy:3128')",
    "401 Client Error: Unauthorized for url: https://api.test/v1/x?token=S3CRET",
    "KafkaError: sasl.username=ada sasl.password=S3CRET",
    "DSN: https://S3CRETabc0123456789@o1.ingest.sentry.io/42",
    "AMQPConnectionError: amqps://ada:S3CRET@b-1.mq.amazonaws.com:5671//",
    "ConnectionParameters(host=h, credentials=PlainCredentials('ada', 'S3CRET'))",
    "Engine args: {'connect_args': {'passwd': 'S3CRET', 'user': 'ada'}}",
    "FATAL config: [mysql]\npassword = S3CRET\nhost = x",
    'password="S3CRET',
    "aws_session_token = S3CRETabc/def+ghi==",
    "ASIA temp creds: aws_access_key_id=S3CRET aws_secret_access_key=S3CRET",
    "{'Credentials': {'AccessKeyId': 'S3CRET', 'SecretAccessKey': 'S3CRET', 'SessionToken': 'S3CRET'}}",
    '{"type":"service_account","private_key_id":"S3CRET","private_key":"-----BEGIN PRIVATE KEY-----\\nS3CRET\\n-----END PRIVATE KEY-----\\n","client_email":"x@y"}',
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=S3CRET/abc+==;EndpointSuffix=core.windows.net",
    "SharedAccessSignature sr=x&sig=S3CRET%2babc%3d&se=1&skn=n",
    "x-amz-security-token:S3CRETFwoGZXIvYXdz",
    "X-Goog-Signature=S3CRET0123456789abcdef&X-Goog-Date=1",
    "<Error><Code>SignatureDoesNotMatch</Code><SignatureProvided>S3CRET0123456789abc=</SignatureProvided></Error>",
    "CLOUDFLARE_API_TOKEN: S3CRET",
    "STRIPE_KEY=sk_live_S3CRET0123456789",
    "openai.AuthenticationError: Incorrect API key provided: sk-S3CRET0123456789abcd. You can find",
    'Vault: {"auth": {"client_token": "S3CRET", "lease": 1}}',
    "X-Consul-Token: S3CRET",
    "docker login -u ada -p S3CRET ghcr.io",
    "helm upgrade --set db.password=S3CRET app",
    "kubectl create secret generic x --from-literal=password=S3CRET",
    "terraform: TF_VAR_db_password=S3CRET",
    "git clone https://oauth2:S3CRET@gitlab.com/a/b.git",
    "pip index: https://__token__:pypi-S3CRET@upload.pypi.org/",
    "slack: xoxb-123456-S3CRET-abcdef",
    "Proxy-Authorization: Basic S3CRETabc=",
    "headers={'authorization': 'Token S3CRET'}",
    "{'HTTP_AUTHORIZATION': 'Bearer S3CRET'}",
    '{"headers":{"Authorization":"Bearer S3CRET"}}',
    '"Authorization\\": \\"Bearer S3CRET\\"',
    "Authorization=Bearer%20S3CRET",
    "curl -H 'Authorization: Bearer S3CRET' https://x",
    'curl -H "X-API-Key: S3CRET" https://x',
    "curl --user 'ada:S3CRET' https://x",
    "{'Cookie': 'sessionid=S3CRET; csrftoken=S3CRET'}",
    "EnvironHeaders([('Cookie', 'session=S3CRET'), ('Host', 'x')])",
    "ImmutableMultiDict([('user', 'ada'), ('password', 'S3CRET')])",
    "ImmutableMultiDict({'password': 'S3CRET'})",
    "PHPSESSID=S3CRET; JSESSIONID=S3CRET",
    "csrfmiddlewaretoken=S3CRET&username=ada",
    "grant_type=refresh_token&refresh_token=S3CRET&client_id=x",
    "grant_type=password&username=ada&password=S3CRET",
    "https://x.test/cb?code=S3CRET0123456789&state=x",
    "https://x.test/#access_token=S3CRET&token_type=Bearer",
    "id_token=eyJhbGciOiJIUzI1NiJ9.eyJS3CRET.abc",
    "WebSocket /ws?ticket=1&jwt=eyJhbGciOiJIUzI1NiJ9.S3CRET.S3CRET",
    "login failed with password: hunterS3CRET for ada",
    "Login failed: wrong password 'S3CRET' for ada",
    "password is S3CRET",
    "token was 'S3CRET'",
    "Wrong password: 'S3CRET'",
    "password -> S3CRET",
    "Config(db_password=SecretStr('S3CRET'))",
    "Settings(secret_key='S3CRET', debug=False)",
    "namespace(password='S3CRET')",
    "OrderedDict([('password', 'S3CRET')])",
    "{b'password': b'S3CRET'}",
    "{u'password': u'S3CRET'}",
    "{'password': \"it's S3CRET\"}",
    "{'tokens': ['a1', 'S3CRET']}",
    'password="""S3CRET"""',
    "args: {'password': ('S3CRET',)}",
    "pydantic: 1 validation error\npassword\n  String too short [type=string_too_short, input_value='S3CRET', input_type=str]",
    "CREATE USER ada PASSWORD 'S3CRET'",
    "ALTER USER ada ENCRYPTED PASSWORD 'S3CRET' VALID UNTIL 'x'",
    "ALTER USER ada IDENTIFIED BY S3CRET",
    "GRANT ALL ON *.* TO 'a'@'%' IDENTIFIED BY PASSWORD '*S3CRET'",
    "LINE 1: ALTER ROLE ada PASWORD PASSWORD 'S3CRET'",
    "CREATE SUBSCRIPTION s CONNECTION 'host=x user=a password=S3CRET' PUBLICATION p",
    "CREATE USER MAPPING FOR a SERVER s OPTIONS (user 'a', password 'S3CRET')",
    "CONFIG SET requirepass S3CRET",
    'CONFIG SET requirepass "S3CRET"',
    "CHANGE MASTER TO MASTER_PASSWORD='S3CRET'",
    "DETAIL: Key (token)=(S3CRET) already exists.",
    "Failing row contains (1, ada, S3CRET).",
    "Duplicate entry 'S3CRET' for key 'users.token'",
    "psql: PGPASSWORD='S3CRET'",
    "mysql -u root -pS3CRET -h x",
    "mysql -u root --password S3CRET",
    "mongodump -u a -p S3CRET",
    "['redis-cli', '-a', 'S3CRET']",
    "keytool -storepass S3CRET -keypass S3CRET",
    "openssl rsa -passin pass:S3CRET",
    "java -Djavax.net.ssl.keyStorePassword=S3CRET -jar x",
    "wget --http-password=S3CRET --user=ada",
    "az login --service-principal -u x -p S3CRET",
    "[default]\naws_secret_access_key = S3CRET\n",
    "  password:   'S3CRET'   # comment",
    "password: >-\n    S3CRET",
    "smtp_pass=S3CRET",
    "DB_PW=S3CRET",
    "dbpasswd=S3CRET",
    "pass=S3CRET",
    "PASS: S3CRET",
    "userPass: S3CRET",
    "secretKey: S3CRET",
    "secretkey=S3CRET",
    "SECRETKEY=S3CRET",
    "consumer_secret=S3CRET",
    'auth_token: "S3CRET"',
    "bearer_token=S3CRET",
    "webhook_secret=whsec_S3CRET",
    "encryptionKey=S3CRET",
    "$2b$12$S3CRETS3CRETS3CRETS3CRE",
    "ada:$apr1$S3CRET$S3CRET",
    "password=S3CRET!@#$%^&*()",
    "password=p@ss:S3CRET",
    "password='S3CRET",
    "password=a'S3CRET",
    "password=(S3CRET)",
    "password=[S3CRET]",
    "password=$S3CRET",
    "password=%53S3CRET",
    "password=none-S3CRET",
    "password=trueS3CRET",
    "'password': 'no, S3CRET'",
    "mysql -P 3306 -u root -pS3CRET",
    "password='no' token='S3CRET'",
    "{'password': 'yes', 'token': 'S3CRET'}",
    "sqlalchemy.exc.ArgumentError: Could not parse SQLAlchemy URL from given URL string 'postgresql//ada:S3CRET@db/x'",
    "DATABASE_URL=postgres://ada:S3CRET@db/x?sslmode=require",
    "redis.exceptions.ResponseError: unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'ada' 'S3CRET'",
    "celery broker redis://:S3CRET@h:6379//0: Error",
    "amqp://ada:**@h and amqp://ada:S3CRET@h",
    "pw=S3CRET",
    "X-CSRFToken: S3CRET",
    "Api-Key S3CRET1234",
    "Authorization: ApiKey S3CRET",
    "authorization header was 'Basic S3CRETdGVzdA=='",
    "MAIL_PASSWORD is 'S3CRET'",
    "gpg --passphrase S3CRET -d x",
    "--build-arg NPM_TOKEN=S3CRET",
    "env: [PASSWORD=S3CRET USER=ada]",
    'PASSWORD="S3CRET" USER=x',
    'set "PASSWORD=S3CRET"',
    '{"msg":"connect failed: password=S3CRET host=db"}',
    '{"dsn":"host=db password=\'S3CRET\'"}',
    'b\'{"password":"S3CRET"}\'',
    '\'{"password": "S3CRET"}\'',
    "\"{'password': 'S3CRET'}\"",
    "password%22%3A%22S3CRET%22",
    "%7B%22password%22%3A%20%22S3CRET%22%7D",
    "&quot;password&quot;: &quot;S3CRET&quot;",
    "password: “S3CRET”",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----\nS3CRET\n-----END PGP PRIVATE KEY BLOCK-----",
    "-----BEGIN EC PRIVATE KEY-----\r\nS3CRET\r\n-----END EC PRIVATE KEY----- after",
    "[SQL: INSERT INTO t VALUES (?)]\n[parameters: ('S3CRET',)]\n(Background on this error at: https://sqlalche.me/e/20/gkpj)",
    "x [SQL: SELECT S3CRET]",
    "{'url': 'redis://:S3CRET@h', 'mail': 'a@b.c'}",
    '{"url":"redis://:S3CRET@h","mail":"a@b.c"}',
    "https://ada:S3CRET@[::1]:8000/x",
    "http://ada:12345S3CRET@h",
    "http://ada:12345@h token=S3CRET",
    "postgresql://ada:S3CRET#x@db",
    "postgresql://ada:S3CRET?x@db",
    'postgresql://ada:x"S3CRET@db',
    "sftp://ada:S3CRET@h",
    "//ada:S3CRET@h/x",
    "git+https://S3CRET@github.com/a/b",
    "password = u'S3CRET'",
    "secret=S3CRET)",
    "f(password='S3CRET')",
    "(password=S3CRET)",
    "kwargs={'secret': \"S3CRET\"}",
    "PGPASSFILE token=S3CRET",
    '{"access_token":"S3CRET","expires_in":3600}',
    "{ token: 'S3CRET' }",
    "token=S3CRET, token=S3CRET",
    "vault token lookup hvs.S3CRET0123456789",
    "api_key=S3CRET",
    "failed to connect to `host=db user=ada database=x password=S3CRET`: dial error",
    "NEW RELIC license_key=S3CRET",
    "SENDGRID_API_KEY=SG.S3CRETabc.def012345",
    "elastic https://elastic:S3CRET@es:9200",
    "Elasticsearch(['https://es'], api_key='S3CRET')",
    "X-Shopify-Access-Token=S3CRET",
    "set-cookie: session=.eJwS3CRET; HttpOnly",
    "form: {'username': ['ada'], 'password1': ['S3CRET'], 'password2': ['S3CRET']}",
    '{"user":{"password":"S3CRET","password_confirmation":"S3CRET"}}',
    "celery task args=('ada',) kwargs={'token': 'S3CRET'}",
    "imap LOGIN ada password=S3CRET",
    "BROKER_URL=sqs://AKIA:S3CRET@",
    "nats://ada:S3CRET@nats:4222",
    "npm ERR! //npm.x/:_password=S3CRET",
    "ansible_become_pass=S3CRET",
    "PasswordHash=S3CRET",
    "CLIENTSECRET=S3CRET",
    "jwt_secret=S3CRET",
    "[('client_secret', 'S3CRET')]",
    'password := "S3CRET"',
    'password="S3CRETx"',
    "password=“S3CRET”",
    "Password('S3CRET')",
    "password=;PWD=S3CRET",
    "Pwd:S3CRET",
    "https://x.test/?sig=S3CRET",
    "https://discord.com/api/webhooks/123/S3CRET_abcdef",
    "https://api.telegram.org/bot123456:S3CRETabc-def/sendMessage",
]

READABLE = [
    "",
    "Access denied for user 'app'@'db' (using password: NO)",
    "Access denied for user 'app'@'db' (using password: YES)",
    'password authentication failed for user "ada"',
    'connection to server at "127.0.0.1", port 5432 failed: fe_sendauth: no password supplied',
    "ERR AUTH <password> called without any password configured for the default user.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOAUTH Authentication required.",
    "registry.example.com:5000/team/app@sha256:0f1e2d not found",
    "repo/app:1.2@sha256:0f1e2d",
    "docker://app:1.2@sha256:0f1e2d",
    '{"error":"quota","limit":100,"owner":"ops@example.com"}',
    "mailto:joe@example.com",
    "from: ada@x.test: no such user",
    "user:42@eu",
    "next_page_token=abc",
    "NextToken=abc&PageToken=x",
    "unexpected token=EOF at line 1",
    "Unexpected token '<', \"<html>\" is not valid JSON",
    "SyntaxError: unexpected token: ')'",
    "invalid literal for int() with base 10: 'abc'",
    "password=None",
    "connect(user='ada', password=None, token=None)",
    "{'password': ['This field is required.']}",
    "got an unexpected keyword argument 'password'",
    "missing 2 required positional arguments: 'password' and 'token'",
    "Invalid password: too short",
    "max_tokens=100, total_tokens: 42, token_type=bearer",
    "PASSWORD_FILE=/run/secrets/db",
    "PWD=/app",
    "redis://cache:6379/0 refused the connection",
    "ssh://git@x.test/repo",
    "postgresql://ada@db/x",
    "http://x.test:8000 does not answer ada@x.test",
    "http://[::1]:8000/a",
    "see https://x.test/a?b=c:d and https://medium.com/@joe/a:b",
    "f'redis://{host}:{port}/0'",
    "docker run -u 1000:1000 app",
    "docker run -v /data:/var/lib -p 8080:80 app",
    "mkdir -p /tmp/x",
    'WWW-Authenticate: Basic realm="x"',
    "Basic authentication is required; Bearer tokens are not accepted",
    "UPDATE users SET password=%s WHERE id=%s",
    "UPDATE users SET password = $1, token = ? WHERE id = :id",
    "secretary: Ada; tokenizer=bert; bypass=1; compass: north",
    "12 tests: pass: 10 fail: 2",
    "cache key 'user:1' and primary_key=id, sort_key: name",
    "signature: (a, b) does not match",
    "(DESCRIPTION=(CONNECT_DATA=(SID=ORCL)))",
    "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "ETag: 0f1e2d3c4b5a69788796a5b4c3d2e1f0, commit 3f786850e387550fdab836ed7e6dc881de23001b",
    "[Errno 111] Connection refused: ('127.0.0.1', 6379)",
    "ModuleNotFoundError: No module named 'secrets_manager'",
    # Further forms.
    "the password has expired",
    "Invalid token",
    "token expired at 12:00",
    "Invalid token: expired or revoked",
    "CSRF token missing or incorrect.",
    "The CSRF token is missing.",
    "secret not found: projects/x/secrets/db",
    "secrets.get('db')",
    "No such secret db-credentials in namespace default",
    "InvalidAccessKeyId: The AWS Access Key Id you provided does not exist in our records.",
    "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
    "An error occurred (ExpiredToken) when calling the GetObject operation: The provided token has expired.",
    "ORA-01017: invalid username/password; logon denied",
    'FATAL: no pg_hba.conf entry for host "10.0.0.1", user "ada", database "x", no encryption',
    "redis.exceptions.AuthenticationError: AUTH called without any password configured",
    "AUTH failed: WRONGPASS invalid username-password pair",
    "Error 111 connecting to localhost:6379. Connection refused.",
    'could not connect to server: Connection refused\n\tIs the server running on host "db" and accepting TCP/IP connections on port 5432?',
    "KeyError: 'password'",
    "NameError: name 'token' is not defined",
    "def login(user: str, password: str) -> None:",
    "password: str | None = None",
    "self.password =  None or None",
    "AUTH_PASSWORD_VALIDATORS=[]",
    "PASSWORD_RESET_TIMEOUT=3600",
    "password_min_length=8",
    "token_count: 5",
    "SSL: CERTIFICATE_VERIFY_FAILED",
    "git@github.com:acme/app.git",
    "pkg:pypi/django@5.0",
    "npm ERR! code E401 @acme/app@1.2.3",
    "file:///var/lib/x:y",
    "s3://bucket/key@v1",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf",
    "projects/p/secrets/db/versions/1",
    "http://localhost:8000/login?next=/a:b@c",
    "2026-01-01T12:00:00+00:00 x@y",
    "[::1]:5432",
    "tcp://10.0.0.1:5432",
    "unix:///run/x.sock",
    "amqp://guest@mq//",
    "sqlite:////data/app.db",
    "C:\\Users\\ada:x",
    "C:/Users/ada",
    'Traceback (most recent call last):\n  File "/app/token.py", line 3, in get_token\n    return tokens[name]',
    '  File "/app/passwords.py", line 3',
    "host=db port=5432 user=ada dbname=x sslmode=require",
    "cookie: too long",
    "Cookies are required",
    "set-cookie header missing",
    "Authorization header missing",
    "authorization failed",
    "authorization is required",
    'Bearer realm="x", error="invalid_token"',
    "basic auth required",
    "api key missing",
    "API key not valid. Please pass a valid API key.",
    "apikey is required",
    "keyboard: us",
    "monkey=banana",
    "turkey: roast",
    "passenger=3 compass=n passed=4 bypass: on",
    "pass=3 fail=0",
    "sha256:abcdef0123456789",
    "csrf_token",
    "secretary=Ada",
    "no signature found",
    "signature=valid",
    "key=value",
    "?key=users&code=404",
    "/search?q=password",
    "(psycopg.errors.BadPassword) x",
    "-p 8080",
    "find / -path x -print",
    "ls -p",
    "tokens: 512",
    "prompt_tokens=5 completion_tokens=6",
    "{'token_type': 'Bearer', 'expires_in': 3600}",
    "user@host:/path",
    "ssh://git@github.com:22/acme/app.git",
    "mail ada@x.test: relay denied",
    "https://x.test/@scope/pkg:1",
    "https://x.test:8443/p@q",
    "redis://cache:6379",
    "ratio 3:4@5",
    "at 10:30@office",
    "time=12:30:11@host",
    "POST /api/v1/token 401",
    "GET /password/reset 200",
    "OAuth2 error: invalid_client",
    "session expired",
    "sessions: 3",
    "unlocked by secret handshake",
    "a => b",
    "x-request-id: abc",
    "{'password': 'None'}",
    "ERR AUTH <password> called",
    "f(token): x",
    "login --port 8080",
    "the token is required",
    "password is too short",
    "token was revoked",
    "cookie=None",
    "http://x.test/a,b:c",
    "hosts kafka://h1,h2:9092",
    "password -> None",
    "secret: str",
    "InvalidPassword: The password does not meet requirements",
    "the list ('password', 'user', 'mail')",
    "Unknown column 'token' in 'field list'",
    'duplicate key value violates unique constraint "users_token_key"',
    'relation "tokens" does not exist',
    'null value in column "password" of relation "users" violates not-null constraint',
    'column "password" does not exist',
    'near "password": syntax error',
    "no such column: users.password",
    "UNIQUE constraint failed: users.token",
    "value too long for type character varying(20)",
    "Table 'x.auth_token' doesn't exist",
    "(1045, \"Access denied for user 'ada'@'10.0.0.1' (using password: YES)\")",
    "SASL authentication failed: wrong password",
    'psycopg.OperationalError: connection failed: connection to server at "127.0.0.1", port 5432 failed: FATAL:  password authentication failed for user "ada"',
    "certificate verify failed: unable to get local issuer certificate (_ssl.c:1006)",
    "NOPERM this user has no permissions to run the 'get' command",
    "MISCONF Redis is configured to save RDB snapshots",
    "django.core.exceptions.ImproperlyConfigured: The SECRET_KEY setting must not be empty.",
    "RuntimeError: The session is unavailable because no secret key was set.  Set the secret_key on the application",
    "jwt.exceptions.DecodeError: Not enough segments",
    "Signature has expired",
    "itsdangerous.exc.BadSignature: Signature b'abc' does not match",
    "CSRF Failed: CSRF token missing.",
    "It is invalid",
    "TokenError: ('EOF in multi-line statement', (2, 0))",
    "IndentationError: unindent does not match",
    "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    "Bad Request: Missing Authorization Header",
    "dial tcp 10.0.0.1:5432: connect: connection refused",
    "Error from server (Forbidden): secrets is forbidden",
    "password is required",
    "secret has 32 bytes",
    "Authorization=None",
    "https://x.test/password/reset?user=ada",
    "api_key_header=X-Api-Key",
    "lock key=job:1",
    "primary key violation",
    "tokens: 5",
    "unexpected token 'x' at 3",
    "app @ file:///x",
    "alice@example.com:bob@example.com",
    "image: app:1.2@sha256:0f",
    "x-request-id: 123e4567",
    'level=error msg="timeout" host=db',
    "connecting to db:5432",
    "LINE: 1",
    "PASSWORD: null",
    '{"password": null, "user": "ada"}',
    "self._password",
    "class Token:",
]


EXACT = [
    (
        "Could not parse rfc1738 URL from string 'postgresql:ada:s3cr3t@db'",
        "Could not parse rfc1738 URL from string '***@db'",
    ),
    ("postgresql+psycopg://a:x/c@r3t@db/x", "postgresql+psycopg://a:***@db/x"),
    ("redis://:x@a,redis://:y@b", "redis://:***@a,redis://:***@b"),
    ("x mysql://a:y@one/, z redis://:w@two/", "x mysql://a:***@one/, z redis://:***@two/"),
    ("https://t0ken@github.com/a", "https://***@github.com/a"),
    ("password='a b' user=ada", "password='***' user=ada"),
    ('{"password": "x", "user": "ada"}', '{"password": "***", "user": "ada"}'),
    (r"{\"password\": \"x\", \"user\": 1}", r"{\"password\": \"***\", \"user\": 1}"),
    ("Server=db;PWD={x;y};UID=ada", "Server=db;PWD=***;UID=ada"),
    ("?token=x&page=1", "?token=***&page=1"),
    ("<password>x</password><user>ada</user>", "<password>***</password><user>ada</user>"),
    ("X-Api-Key: x\r\nHost: h", "X-Api-Key: ***\r\nHost: h"),
    ("Authorization: Basic x\r\nHost: h", "Authorization: ***\r\nHost: h"),
    ("Cookie: a=b; c=d\r\nHost: h", "Cookie: ***\r\nHost: h"),
    (
        "CREATE USER ada IDENTIFIED BY 'x' REQUIRE SSL",
        "CREATE USER ada IDENTIFIED BY '***' REQUIRE SSL",
    ),
    ("tool --token x --verbose", "tool --token *** --verbose"),
    ("DETAIL:  Key (mail)=(a@b.c) already exists.", "DETAIL:  Key (mail)=(***) already exists."),
    (
        "Port could not be cast to integer value as 'x' (f('y'))",
        "Port could not be cast to integer value as '***' (f('y'))",
    ),
    ("Duplicate entry 'x' for key 'users.mail'", "Duplicate entry '***' for key 'users.mail'"),
    ("syntax error\nLINE 1: SELECT 'x\n     ^", "syntax error\nLINE 1: ***\n     ^"),
    (
        "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\nafter",
        "-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----\nafter",
    ),
]


@pytest.mark.parametrize("given", HIDDEN)
def test_credentials_are_hidden(given):
    """A credential is hidden in each of the forms, also after a second pass."""
    redacted = redact(given)
    assert "S3CRET" not in redacted
    assert "S3CRET" not in redact(redacted)


@pytest.mark.parametrize("given", READABLE)
def test_other_text_stays_readable(given):
    """A text without a credential is not changed."""
    assert redact(given) == given


@pytest.mark.parametrize(("given", "redacted"), EXACT)
def test_only_the_credential_is_replaced(given, redacted):
    """The text around a credential is not changed."""
    assert redact(given) == redacted


@pytest.mark.parametrize(
    "fragment", ["pwd:{,", "password='", "://b:", "mysql -", "<password", "secret-a."]
)
def test_a_long_text_takes_little_time(fragment):
    """A long text takes seconds at most; `tests/integration` shows that time is linear."""
    started_s = time.process_time()
    redact((fragment * 20_000)[:20_000])
    assert time.process_time() - started_s < 10


class TestTruncate:
    """Texts are shortened before they are redacted."""

    def test_a_short_text_stays(self):
        """A text of up to 4,000 characters is not changed."""
        assert truncate("x" * MAX_LENGTH) == "x" * MAX_LENGTH

    def test_the_length_is_reported(self):
        """A shortened text ends with the number of its characters."""
        shortened = truncate("x" * 5000)
        assert shortened.endswith("x... (5000 characters)")
        assert len(shortened) == MAX_LENGTH

    def test_the_word_at_the_cut_is_left_out(self):
        """A word that would be cut is left out."""
        assert truncate("a b " * 900 + "c" * 500) == "a b " * 899 + "a b... (4100 characters)"

    def test_a_url_at_the_cut_is_left_out(self):
        """A URL may have a password with spaces, so it is left out as a whole."""
        given = (
            "x" * (MAX_LENGTH - 100) + " postgres://app:horse battery staple" + " x" * 99 + "@db/"
        )
        assert truncate(given).endswith("x postgres:... (4138 characters)")

    @pytest.mark.parametrize("secret", HIDDEN[::8])
    def test_nothing_is_half_shown_at_the_cut(self, secret):
        """A credential at the cut is hidden, wherever the cut is."""
        start = secret.index("S3CRET") + 3
        given = "x " * ((MAX_LENGTH - start) // 2) + secret + " x" * 50
        assert "S3C" not in redact(truncate(given))


class TestFormatError:
    """``format_error`` returns the text of an exception."""

    def test_the_text_is_redacted(self):
        """Credentials in the text are hidden."""
        assert format_error(ValueError("redis://:pw@h")) == "redis://:***@h"

    def test_an_exception_without_text_has_its_name(self):
        """An exception without a text is shown by the name of its class."""
        assert format_error(ValueError()) == "ValueError"

    def test_an_exception_that_cannot_be_shown(self):
        """An exception that raises in ``__str__`` is shown by a placeholder."""

        class BrokenError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        assert (
            format_error(BrokenError())
            == safe_str(BrokenError())
            == "<BrokenError that cannot be shown>"
        )

    def test_a_long_text_is_shortened(self):
        """A long text is shortened before it is redacted."""
        assert len(format_error(ValueError("pwd:{," * 200_000))) < MAX_LENGTH + 50


def _fail_at_sqlalchemy() -> None:
    engine = create_engine("sqlite://", poolclass=NullPool)  # closes the connection
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE users (mail TEXT UNIQUE, name TEXT)"))
        insert = text("INSERT INTO users VALUES (:m, :p)")
        for _ in range(2):
            connection.execute(insert, {"m": f"ada@{'x'}.test", "p": f"hunter{2}"})


def _fail_with_a_cause() -> None:
    try:
        _fail_at_sqlalchemy()
    except Exception as error:
        raise RuntimeError(f"cannot save: {error}") from error


def _fail_in_a_group() -> None:
    try:
        _fail_at_sqlalchemy()
    except Exception as error:
        if sys.version_info < (3, 11):
            raise
        raise ExceptionGroup("failed", [error, ValueError("other")]) from None  # noqa: F821


@pytest.mark.parametrize("function", [_fail_at_sqlalchemy, _fail_with_a_cause, _fail_in_a_group])
class TestSQLAlchemy:
    """The statement and parameters in errors of SQLAlchemy are left out."""

    def test_in_texts_and_tracebacks(self, function):
        """The driver's message stays; the statement and parameters are in no text or traceback."""
        with pytest.raises(Exception, match=r"\w") as raised:
            function()
        shown = format_traceback(raised.value)
        assert "UNIQUE constraint failed: users.mail" in shown
        shown += format_error(raised.value)
        for part in ("ada@x.test", "hunter2", "VALUES (?", "[SQL", "[parameters"):
            assert part not in shown

    def test_in_the_heartbeat_and_the_summary(self, function):
        """The report, the log of a check and ``request.summary`` have neither."""

        def app(_environ, _start_response):
            function()

        stream = io.StringIO()
        handler = MozlogHandler(stream)
        logging.getLogger().addHandler(handler)
        try:
            dockerflow = DockerflowMiddleware(app)
            dockerflow.check(function, name="users")
            report = Client(dockerflow).get("/__heartbeat__").text
            with pytest.raises(Exception, match=r"\w"):
                Client(dockerflow).get("/")
        finally:
            logging.getLogger().removeHandler(handler)
        assert "failed" in report
        lines = [line for line in stream.getvalue().splitlines() if "request.summary" in line]
        assert "failed" in lines[-1] or "cannot save" in lines[-1]
        for part in ("ada@x.test", "hunter2", "VALUES (?"):
            assert part not in report + stream.getvalue()


def _urlsplit_port() -> None:
    from urllib.parse import urlsplit

    assert urlsplit("redis://:S3CRET/0").port


def _connect_psycopg() -> None:
    import psycopg

    psycopg.connect("postgresql://ada:x@S3CRET@nowhere.invalid/x", connect_timeout=2)


def _conninfo() -> None:
    import psycopg

    psycopg.connect("host=x password='S3CRET")


def _run_command() -> None:
    command = [sys.executable, "-c", "raise SystemExit(1)", "--db-password", "S3CRET"]
    subprocess.run(command, check=True)


def _get_with_urllib3() -> None:
    import urllib3

    pool = urllib3.PoolManager(retries=0)
    pool.request("GET", "http://127.0.0.1:1/v1?api_key=S3CRET&page=2")


def _redis_error() -> None:
    raise redis.ResponseError("unknown command 'HELLO', with args beginning with: '3' 'S3CRET'")


@pytest.mark.parametrize(
    "provoke",
    [_urlsplit_port, _connect_psycopg, _conninfo, _run_command, _get_with_urllib3, _redis_error],
)
def test_real_errors(provoke):
    """The exceptions of real libraries show no credential."""
    with pytest.raises(Exception, match=r"\w") as raised:
        provoke()
    assert "S3CRET" not in format_error(raised.value)


def test_a_url_of_sqlalchemy_is_hidden():
    """The repr of arguments with a rendered URL shows no password."""
    url = make_url("postgresql://ada:S3CRET%40x@db/x").render_as_string(hide_password=False)
    assert redact(repr({"url": url})) == "{'url': 'postgresql://ada:***@db/x'}"
