"""The table of tokens that were made elsewhere and not used here yet."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from himalia_hub.db.base import Base
from himalia_hub.tokens.models import ApiToken


class ImportedToken(Base):
    """Another program's hash of a token, `algorithm:rounds:salt:digest`, with the token's first letters.

    Its row of `api_tokens` has a hash that no token has, until the token is used: then ours takes its place and this
    row goes.
    """

    __tablename__ = "imported_tokens"

    token_id: Mapped[int] = mapped_column(sa.ForeignKey(ApiToken.id, ondelete="CASCADE"), primary_key=True)
    prefix: Mapped[str] = mapped_column(sa.String(16), index=True)
    hashed: Mapped[str] = mapped_column(sa.String(255))
