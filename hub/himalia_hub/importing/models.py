"""The tables of tokens and share codes that were made elsewhere."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base
from himalia_hub.shares.models import ShareCode
from himalia_hub.tokens.models import ApiToken


class ImportedToken(Base):
    """Another program's hash of a token, `algorithm:rounds:salt:digest`, with the token's first letters.

    Its row of `api_tokens` has a hash that no token has, until the token is used: then ours takes its place, and this
    one has an empty `prefix` and is looked at no more, except by whoever imports again.
    """

    __tablename__ = "imported_tokens"

    token_id: Mapped[int] = mapped_column(sa.ForeignKey(ApiToken.id, ondelete="CASCADE"), primary_key=True)
    prefix: Mapped[str] = mapped_column(sa.String(16), index=True)
    hashed: Mapped[str] = mapped_column(sa.String(255))


class ImportedShareCode(Base):
    """The same of a share code, whose row of `share_codes` has a hash that no code has; for as long as it is good."""

    __tablename__ = "imported_share_codes"

    code_id: Mapped[int] = mapped_column(sa.ForeignKey(ShareCode.id, ondelete="CASCADE"), primary_key=True)
    prefix: Mapped[str] = mapped_column(sa.String(16), index=True)
    hashed: Mapped[str] = mapped_column(sa.String(255))
