"""How URLs are read: which part is wrong is said, and no piece is repeated."""

from __future__ import annotations

import argparse
import logging

import pytest

from course.errors import BadInput
from course.services import RedactingFormatter, ServiceAddress, redact
from course.urls import (
    AMQP_FORM,
    MONGO_FORM,
    POSTGRES_FORM,
    REDIS_FORM,
    ServiceUrl,
    UrlForm,
    given_url,
    seconds_above_zero,
    service_url,
)

BEHIND = "an @ stands behind the host"
SLASHES = "two slashes must follow"
ENCODE = "must be percent-encoded"


def read(url: str, form: UrlForm, limit: float = 1.0) -> ServiceUrl:
    return service_url(ServiceAddress(url, "--url", True, limit), form)


@pytest.mark.parametrize(
    ("form", "url", "wrong"),
    [
        (REDIS_FORM, "redis://app:Tr0ub@dor/3@h", BEHIND),
        (REDIS_FORM, "redis:/u:s3cret@h", SLASHES),
        (REDIS_FORM, "redis:u:s3cret@h", SLASHES),
        (REDIS_FORM, "u:s3cret@h:6379", "does not begin with redis://"),
        (REDIS_FORM, "redis://br:pa[ss@h", ENCODE),
        (REDIS_FORM, "redis://u:s3cret@[::1/0", "not a whole address in [ ]"),
        (REDIS_FORM, "redis://u:s3cret@[::g]/0", "not an IPv6 address"),
        (REDIS_FORM, "redis://u:s3cret@h/s3cret", "not the number of a database"),
        (REDIS_FORM, "redis://u:s3#cret@h", "it holds a #"),
        (REDIS_FORM, "redis://u:100%s3cret@h", "a % must be followed by two digits"),
        (REDIS_FORM, "redis://u:s3cret@h,i/0", "it takes one"),
        (REDIS_FORM, "redis://u:s3cret@h?s3cret", "not of the form name=value"),
        (REDIS_FORM, "unix://s3cret@h", "takes the path of a socket"),
        (REDIS_FORM, "amqp://u:s3cret@h", "amqp:// is not for this lesson"),
        (REDIS_FORM, "s3cret://u@h", "does not begin with redis://"),
        (REDIS_FORM, "redis://u:s3cret@/0?host=s3cret:1", "not an IPv6 address"),
        (REDIS_FORM, "redis://u:s3cret@/0?host=%2Fs3cret", "not the name or the"),
        (REDIS_FORM, "redis://u:s3cret@/0?port=s3cret", "the port is not a number"),
        (REDIS_FORM, "redis://u:s3cret@%2Frun%2Fs3cret/0", "not the name or the"),
        (AMQP_FORM, "amqp://u:s3cret@%2Frun%2Fs3cret/", "not the name or the"),
        (AMQP_FORM, "amqp:/u:s3cret@h", SLASHES),
        (AMQP_FORM, "AMQP:u:s3cret@h", SLASHES),
        (AMQP_FORM, "u:s3cret@h:5672", "does not begin with amqp://"),
        (AMQP_FORM, "amqp://u:s3@cret@h", ENCODE),
        (AMQP_FORM, "amqp://u:p@h/s3cret/b", "not one vhost"),
        (AMQP_FORM, "amqp://u:p@s3 cret/", "it holds a space"),
        (AMQP_FORM, "amqp://u:s3\ncret@h/", "it holds a space"),
        (AMQP_FORM, "amqp://u:p@s3(cret/", "not the name or the address"),
        (MONGO_FORM, "mongodb://u:se cret@h/", "it holds a space"),
        (MONGO_FORM, "mongodb://u/x:s3cret@h/", BEHIND),
        (MONGO_FORM, "mongodb://u:s3:cret@h/", "is written %3A"),
        (MONGO_FORM, "mongodb://u:s3cret@/", "it names no host"),
        (MONGO_FORM, "mongodb://u:s3cret@h,i:0/", "not a number from 1 to 65535"),
        (MONGO_FORM, "mongodb+srv://u:s3cret@h,i/", "takes one name"),
        (MONGO_FORM, "mongodb+srv://u:s3cret@h:1/", "without a port"),
        (POSTGRES_FORM, "postgresql://odd:s3cr3t@Hunter2?x@h/db", BEHIND),
        (POSTGRES_FORM, "postgresql://u:s3cret", "no @ before the host"),
        (POSTGRES_FORM, "postgresql://u:s3cret@h:70000/", "from 1 to 65535"),
        (POSTGRES_FORM, f"postgresql://u:s3cret@{64 * 'h'}.i/", "not the name or the"),
        (AMQP_FORM, f"amqp://u:s3cret@{130 * 'h.'}i/", "not the name or the address"),
        (POSTGRES_FORM, "s3cret", "does not begin with postgresql://"),
        (POSTGRES_FORM, "://u:s3cret@h", "does not begin with postgresql://"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_repeated(
    form: UrlForm, url: str, wrong: str
) -> None:
    with pytest.raises(BadInput) as found:
        read(url, form)
    line = str(found.value)
    assert line.startswith(f"--url is not a {form.service} URL: ")
    assert wrong in line
    assert f"; write {form.schemes[0]}://" in line
    assert "cret" not in line
    assert "dor" not in line
    assert "Hunter2" not in line
    assert found.value.__suppress_context__


@pytest.mark.parametrize(
    ("form", "url", "place"),
    [
        (REDIS_FORM, "redis://", "127.0.0.1:6379"),
        (REDIS_FORM, "redis:///3", "127.0.0.1:6379"),
        (REDIS_FORM, "rediss://u:a:b@h.example:6380/0", "h.example:6380"),
        (REDIS_FORM, "redis://u:p@[::1]/0", "[::1]:6379"),
        (REDIS_FORM, "redis:///?host=x", "x:6379"),  # and so on: where redis-py goes
        (REDIS_FORM, "redis://u:p@/0?host=x&port=7", "x:7"),
        (REDIS_FORM, "redis:///?host=::1&port=7", "[::1]:7"),
        (REDIS_FORM, "redis://?port=7", "127.0.0.1:7"),
        (REDIS_FORM, "redis://y?host=x&port=7", "y:7"),
        (REDIS_FORM, "redis://y:8?host=x&port=7", "y:8"),
        (REDIS_FORM, "redis://[::1]?port=7", "[::1]:7"),
        (REDIS_FORM, "unix://u:p@/run/redis.sock?db=1", "/run/redis.sock"),
        (REDIS_FORM, "redis://:pa%5Bss@h\n", "h:6379"),  # the end of a secret file
        (AMQP_FORM, "amqp://s3cret@h/", "h:5672"),
        (AMQP_FORM, "amqps://u:p@h/%2F", "h:5671"),
        (MONGO_FORM, "mongodb://u:p@a,b:27018,[::1]:7/x", "a:27017, b:27018, [::1]:7"),
        (MONGO_FORM, "mongodb://%2Frun%2Fm.sock/", "/run/m.sock"),
        (MONGO_FORM, "mongodb+srv://u:p@cluster.example/", "cluster.example"),
        (POSTGRES_FORM, "postgres:///db", "127.0.0.1:5432"),
        (POSTGRES_FORM, "postgresql://u@a:1,b/db", "a:1, b:5432"),
        (POSTGRES_FORM, "postgresql://%2Frun%2Fpg/db", "/run/pg"),
        (POSTGRES_FORM, "postgresql://u:p@/db?host=/run/pg", "/run/pg"),
        (POSTGRES_FORM, "postgresql:///?host=a,::1&port=1,2", "a:1, [::1]:2"),
        (POSTGRES_FORM, "postgresql:///?host=a:1&host=b:2", "a:1, b:2"),
        (POSTGRES_FORM, "postgresql:///?host=a,b&port=7", "a:7, b:7"),
    ],
)
def test_what_can_be_read_is_shown_as_its_hosts(
    form: UrlForm, url: str, place: str
) -> None:
    assert read(url, form).place == place


def test_a_url_is_read_whole_and_shows_no_secret() -> None:
    url = read("amqp://u%40x:s3%2Fcret@h:1/a%2Fb?heartbeat=7&x=a%20b", AMQP_FORM)
    assert (url.user, url.password, url.path) == ("u@x", "s3/cret", "a/b")
    assert url.options == {"heartbeat": "7", "x": "a b"}
    assert "cret" not in repr(url)
    assert "cret" not in repr(ServiceAddress(url.text, "--url", named=True))


@pytest.mark.parametrize(
    ("form", "url", "seconds"),
    [
        (POSTGRES_FORM, "postgresql://h/?connect_timeout=7", 7.0),
        (MONGO_FORM, "mongodb://h/?connecttimeoutms=1500", 1.5),
        (REDIS_FORM, "redis://h/?socket_timeout=0.5", 0.5),
        (AMQP_FORM, "amqp://h/?stack_timeout=9", 9.0),
        (AMQP_FORM, "amqp://h/", 4.0),
        (AMQP_FORM, "amqp://h/?stack_timeout=soon", 4.0),  # pika refuses it
    ],
)
def test_a_url_says_itself_how_long_to_wait(
    form: UrlForm, url: str, seconds: float
) -> None:
    assert read(url, form, limit=4.0).connect_limit == seconds


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "soon", "", "1e9"])
def test_a_time_to_connect_is_a_number_above_zero(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="not a number of seconds"):
        seconds_above_zero(text)
    assert seconds_above_zero("0.5") == 0.5


def test_a_given_url_has_no_line_break_at_its_end() -> None:
    assert given_url("redis://h\n") == "redis://h"
    with pytest.raises(argparse.ArgumentTypeError, match="empty"):
        given_url(" \n")


def test_from_then_on_its_password_is_hidden_in_every_spelling() -> None:
    read("redis://u:Xy%2Fz%40zy%22q@h", REDIS_FORM)
    for spelled in ('Xy/z@zy"q', "Xy%2Fz%40zy%22q", 'Xy/z@zy\\"q', "Xy/z%40zy%22q"):
        assert redact(f"a library's words ({spelled})") == "a library's words (***)"
    read("mongodb://h/?tlsCertificateKeyFilePassword=Plugh-9", MONGO_FORM)
    read("amqp://h/?ssl_options={'password':'Plover-7'}", AMQP_FORM)
    read("amqp://Xyzzy-only@h/", AMQP_FORM)
    read("redis://Token-only:@h/", REDIS_FORM)
    read("amqp://h/?ssl_options={'password':'Zork,{9\"','x':1}", AMQP_FORM)
    read(
        "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:Grue-5,x:1", MONGO_FORM
    )
    hidden = redact('Plugh-9 Plover-7 Xyzzy-only Token-only Zork,{9" Grue-5')
    assert hidden == "*** *** *** *** *** ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis:/u:s3cret@h", "redis:/u:***@h"),
        ("u:s3cret@h:6379 is", "u:***@h:6379 is"),
        ("amqp://s3cret@h/ is", "amqp://***@h/ is"),
        ("mongodb://u:se cret@h/", "mongodb://***@h/"),
        ("mongodb://u/x:s3cret@h/", "mongodb://***@h/"),
        ("API_KEY=s3cret&x=1", "API_KEY=***&x=1"),
        ('{"accessToken": "s3\\"cret", "x": 1}', '{"accessToken": ***, "x": 1}'),
        ("{'Passphrase': b's3 cret'}", "{'Passphrase': ***}"),
        ("sslpassword : s3cret end", "sslpassword : *** end"),
        ("KeyError: 'churn'", "KeyError: 'churn'"),
        ("duplicate key value violates", "duplicate key value violates"),
    ],
)
def test_what_says_that_it_is_secret_is_hidden(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_log_line_hides_them_in_its_traceback_too() -> None:
    read("redis://u:Frotz-1234@h", REDIS_FORM)
    try:
        raise LookupError("no Frotz-1234 at amqp://u:s3cret@h")
    except LookupError as error:
        fault = (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", 10, "x.py", 1, "at %s", ("Frotz-1234",), fault)
    printed = RedactingFormatter("%(message)s").format(record)
    assert printed.startswith("at ***\nTraceback")
    assert printed.endswith("LookupError: no *** at amqp://u:***@h")
