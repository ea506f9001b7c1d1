"""Column types that mean the same in both databases."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import BigInteger, Dialect, Integer, TypeDecorator

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An aware `datetime`, kept as whole microseconds since 1970: exact, ordered, and without a zone to lose."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Refuse a naive datetime: nobody knows when that is."""
        if value is not None and value.tzinfo is None:
            raise ValueError("expected an aware datetime, got a naive one")
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give the instant back in UTC."""
        return None if value is None else _EPOCH + value * _MICROSECOND


class Duration(TypeDecorator[timedelta]):
    """A `timedelta`, kept as whole microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Keep microseconds."""
        return None if value is None else value // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> timedelta | None:  # noqa: ARG002
        """Give the duration back."""
        return None if value is None else value * _MICROSECOND


#: An ever-rising 64-bit number: SQLite counts up only in a column that is declared INTEGER.
RisingNumber = BigInteger().with_variant(Integer(), "sqlite")
