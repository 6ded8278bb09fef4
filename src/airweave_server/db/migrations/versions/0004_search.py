"""Search: collections of other languages, and what is counted so that a query need not count."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# as of this revision; airweave itself is the English one
LANGUAGES = """
    arabic armenian basque catalan danish dutch finnish french german greek hindi hungarian indonesian irish italian
    lithuanian nepali norwegian portuguese romanian russian serbian simple spanish swedish tamil turkish yiddish
"""


def upgrade() -> None:
    for language in LANGUAGES.split():
        name = f"public.airweave_{language}"
        op.execute(f"create text search configuration {name} (copy = pg_catalog.{language})")
        op.execute(f"alter text search configuration {name} drop mapping for hword, asciihword, numhword")
    op.add_column("collection", sa.Column("language", sa.Text(), server_default="english", nullable=False))
    # The collection says which, so a program that knows of no languages writes the right words too.
    op.execute("""
        create function chunk_words() returns trigger language plpgsql as $$
        declare
            spoken text := (select language from collection where id = new.collection_id);
        begin
            if spoken is null or spoken = 'english' then
                new.ts := to_tsvector('public.airweave', new.heading || ' ' || new.text);
            else
                new.ts := to_tsvector(
                    cast('public.airweave_' || spoken as regconfig), new.heading || ' ' || new.text);
            end if;
            return new;
        end $$
    """)
    op.execute("alter table chunk alter column ts drop expression")  # what is computed stays
    op.execute("""
        create trigger chunk_words before insert or update of heading, text, ts, collection_id on chunk
        for each row execute function chunk_words()
    """)
    # A chunk's row stays in one piece: words that lie apart are four more pages to read for each chunk that is ranked,
    # and packing them takes as long as all the rest of writing it.
    op.execute("alter table chunk set (toast_tuple_target = 4000)")
    op.create_table(
        "collection_size",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("chunks", sa.BigInteger(), nullable=False),
        sa.Column("mean_bytes", sa.Float(), nullable=False),
        sa.Column("counted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("looked_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("collection_id"),
    )
    op.create_table(
        "collection_word",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("word", sa.Text(), nullable=False),
        sa.Column("is_ident", sa.Boolean(), nullable=False),
        sa.Column("chunks", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["collection_id"], ["collection.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("collection_id", "word", "is_ident"),
    )
