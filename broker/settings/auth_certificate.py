"""The settings of `auth` for certificates of clients."""

from typing import Literal

from pydantic import Field

from broker.settings.group import Group

CertificateName = Literal["off", "common_name", "subject", "san_dns", "san_email", "san_uri"]


class CertificateAuthSettings(Group):
    """What a certificate says of who a client is."""

    certificate_username: CertificateName = Field(
        default="off",
        description="What in the certificate of a client is its user name, on listeners with"
        " `client_ca`: the common name, the whole subject (`CN=pump,O=Acme`), or the first DNS name, mail"
        " address or URI of its alternative names. It is asked before tokens and passwords, and the User"
        " Name of the CONNECT does not count. `off`: a certificate says nothing of who a client is.",
    )
