"""Words in one form: compatibility forms, invisible characters, diacritics, and what stands beside unspaced scripts."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# as text/normal.py and text/identifiers.py have them
INVISIBLE = r"\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufe00-\ufe0f\ufeff"
UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff"
    r"\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f"
)
SINGLE = ("øØłŁđĐðÐıħĦ", "oOlLdDdDihH")
DOUBLE = {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "þ": "th", "Þ": "Th"}
# letters and digits with a compatible form, and marks that compose
COMPATIBLE = (
    r"\u00aa\u00b2\u00b3\u00b9\u00ba\u0132\u0133\u013f\u0140\u0149\u017f\u01c4-\u01cc\u01f1-\u01f3\u0300-\u036f"
    r"\u1100-\u11ff\u2070-\u209c\u2102-\u211d\u2124-\u2149\u2160-\u217f\u2460-\u24ff\u3099\u309a\u3131-\u318e"
    r"\u3200-\u33ff\ufb00-\ufb4f\ufe70-\ufefc\uff01-\uffef"
)
# characters that may have a diacritic
ACCENTED = r"\u00c0-\u024f\u0300-\u036f\u0370-\u04ff\u1e00-\u1fff"


def upgrade() -> None:
    # most text needs none of this: each step asks first
    op.execute(f"""
        create function airweave_search_form(said text) returns text language plpgsql immutable strict parallel safe
        as $$
        begin
            if octet_length(said) = length(said) then
                return said;
            end if;
            if said ~ '[{INVISIBLE}]' then
                said := regexp_replace(said, '[{INVISIBLE}]', '', 'g');
            end if;
            return case when said ~ '[{COMPATIBLE}]' then normalize(said, nfkc) else said end;
        end $$
    """)
    letters = f"translate(said, '{SINGLE[0]}', '{SINGLE[1]}')"
    for letter, plain in DOUBLE.items():
        letters = f"replace({letters}, '{letter}', '{plain}')"
    op.execute(rf"""
        create function airweave_unaccented(said text) returns text language plpgsql immutable strict parallel safe
        as $$
        begin
            if octet_length(said) = length(said) or said !~ '[{ACCENTED}]' then
                return said;
            end if;
            return normalize(regexp_replace(normalize({letters}, nfd), '[\u0300-\u036f]', '', 'g'), nfc);
        end $$
    """)
    # A word with diacritics is also found without them. Its second form has a weight of its own: it counts less. The
    # configuration of English is a literal, which is looked up once.
    op.execute(rf"""
        create function airweave_words(spoken text, said text) returns tsvector language plpgsql stable as $$
        declare
            words text;
            bare text;
            found tsvector;
        begin
            if octet_length(said) = length(said) or said !~ '[{INVISIBLE}{COMPATIBLE}{UNSPACED}{ACCENTED}]' then
                if spoken is null or spoken = 'english' then
                    return to_tsvector('public.airweave', said);
                end if;
                return to_tsvector(cast('public.airweave_' || spoken as regconfig), said);
            end if;
            words := airweave_search_form(said);
            if words ~ '[{UNSPACED}]' then
                words := regexp_replace(
                    regexp_replace(words, '([{UNSPACED}])([0-9A-Za-z])', '\1 \2', 'g'),
                    '([0-9A-Za-z])([{UNSPACED}])', '\1 \2', 'g');
            end if;
            bare := airweave_unaccented(words);
            if spoken is null or spoken = 'english' then
                found := to_tsvector('public.airweave', words);
                if bare <> words then
                    found := found || setweight(
                        ts_delete(to_tsvector('public.airweave', bare), tsvector_to_array(found)), 'C');
                end if;
                return found;
            end if;
            found := to_tsvector(cast('public.airweave_' || spoken as regconfig), words);
            if bare <> words then
                found := found || setweight(ts_delete(
                    to_tsvector(cast('public.airweave_' || spoken as regconfig), bare), tsvector_to_array(found)), 'C');
            end if;
            return found;
        end $$
    """)
    op.execute("""
        create or replace function chunk_words() returns trigger language plpgsql as $$
        declare
            spoken text := (select language from collection where id = new.collection_id);
        begin
            new.ts := airweave_words(spoken, new.heading || ' ' || new.text);
            return new;
        end $$
    """)
    # 1 is the form before; each chunk that differs is worded anew
    op.add_column("collection", sa.Column("index_version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("collection", sa.Column("worded_row", sa.BigInteger(), nullable=True))
