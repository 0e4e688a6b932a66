"""Checks of services behind a network: HTTP, TCP with or without TLS, DNS."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, SecretStr, field_validator, model_validator

from regrow.settings.checks.common import Pattern, TimedCheck, ordered

Days = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]
Scalar = str | int | float | bool | None
RecordType = Literal["A", "AAAA", "CAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"]


class CertificateCheck(TimedCheck):
    """Over TLS the certificate is checked, and how long it lasts."""

    certificate_warning: Days = 21
    """TLS: a certificate that ends in fewer days is degraded; 0: never."""
    certificate_critical: Days = 7
    """TLS: a certificate that ends in fewer days is unhealthy; 0: only when it has ended."""
    ca_bundle: Path | None = None
    """TLS: certificates that are trusted beside the system's, in PEM."""

    @model_validator(mode="after")
    def _warned_before(self) -> Self:
        if self.certificate_warning:
            ordered(
                self.certificate_critical,
                self.certificate_warning,
                "certificate_critical certificate_warning",
            )
        return self

    @field_validator("ca_bundle")
    @classmethod
    def _there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            msg = "there is no such file"
            raise ValueError(msg)
        return value


class JsonCondition(BaseModel):
    """What a place in an answer's JSON must be. Each condition that is given must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Where it is, as JSONPath (RFC 9535): `$.queue.depth`, `$.nodes[*].up`. All places found must pass."""
    equals: Scalar = None
    """It is this."""
    at_least: float | None = None
    """It is a number, and not smaller."""
    at_most: float | None = None
    """It is a number, and not larger."""
    matches: Pattern | None = None
    """It is a text in which this regular expression is found."""

    @field_validator("path")
    @classmethod
    def _is_one(cls, value: str) -> str:
        import jsonpath

        try:
            jsonpath.compile(value)
        except jsonpath.JSONPathError as error:
            msg = f"this is no JSONPath: {str(error).splitlines()[0]}"
            raise ValueError(msg) from None
        return value

    def conditions(self) -> dict[str, Any]:
        """The conditions that are given, by name; none: the place must only be there."""
        given = self.model_fields_set - {"path"}
        return {name: getattr(self, name) for name in type(self).model_fields if name in given}


class HttpCheck(CertificateCheck):
    kind: Literal["http"]
    url: HttpUrl
    """What is asked for."""
    method: Literal["GET", "HEAD", "POST"] = "GET"
    """How it is asked for."""
    body: SecretStr | None = None
    """Sent along with POST."""
    expect_status: tuple[int, ...] = (200, 201, 202, 203, 204)
    """Answers that are well."""
    expect_body: str | None = None
    """Text that the body must contain."""
    expect_pattern: Pattern | None = None
    """A regular expression that must be found in the body."""
    expect_json: tuple[JsonCondition, ...] = ()
    """Conditions on the body as JSON, each a table; see below."""
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    """Sent along; secrets by ${VARIABLE} or NAME_file."""

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        if self.method == "HEAD" and (self.expect_body or self.expect_pattern or self.expect_json):
            msg = "an answer to HEAD has no body to look into; use GET"
            raise ValueError(msg)
        if self.body is not None and self.method != "POST":
            msg = f"{self.method} sends no body; use POST"
            raise ValueError(msg)
        return self

    @property
    def reads_body(self) -> bool:
        return bool(self.expect_body is not None or self.expect_pattern or self.expect_json)


class TcpCheck(CertificateCheck):
    kind: Literal["tcp"]
    host: str
    """Name or address."""
    port: Port
    """The port that must accept a connection."""
    tls: bool = False
    """Whether it speaks TLS from the start: then the handshake must succeed too."""
    server_name: str | None = None
    """TLS: the name that the certificate must have; None: `host`."""


class DnsCheck(TimedCheck):
    kind: Literal["dns"]
    name: str
    """The name that is asked for; for PTR an address will do."""
    record: RecordType = "A"
    """The type of record."""
    expect: tuple[str, ...] = ()
    """What must be among the answers, as `dig +short` prints it; empty: any answer will do."""
    exactly: bool = False
    """Nothing else may be among them."""
    nameservers: tuple[str, ...] = ()
    """Addresses of the servers that are asked; empty: those of the system."""
    port: Port = 53
    """Their port."""

    @field_validator("nameservers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            ip_address(server)
        return value

    @field_validator("name")
    @classmethod
    def _a_name(cls, value: str) -> str:
        from dns import exception, name

        try:
            name.from_text(value)
        except exception.DNSException as error:
            msg = f"this is no name of the DNS: {error}"
            raise ValueError(msg) from None
        return value
