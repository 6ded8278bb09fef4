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
            return case when said is nfkc normalized then said else normalize(said, nfkc) end;
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
    # A word with diacritics is also found without them. Its second form has a weight of its own: it counts less.
    op.execute(rf"""
        create function airweave_words(spoken text, said text) returns tsvector language plpgsql stable as $$
        declare
            configuration regconfig := cast(
                'public.airweave' || case when spoken is null or spoken = 'english' then '' else '_' || spoken end
                as regconfig);
            words text := airweave_search_form(said);
            bare text;
            found tsvector;
        begin
            if octet_length(words) > length(words) and words ~ '[{UNSPACED}]' then
                words := regexp_replace(
                    regexp_replace(words, '([{UNSPACED}])([0-9A-Za-z])', '\1 \2', 'g'),
                    '([0-9A-Za-z])([{UNSPACED}])', '\1 \2', 'g');
            end if;
            found := to_tsvector(configuration, words);
            bare := airweave_unaccented(words);
            if bare <> words then
                found := found || setweight(ts_delete(to_tsvector(configuration, bare), tsvector_to_array(found)), 'C');
            end if;
            return found;
        end $$
    """)
    op.execute("""
        create or replace function chunk_words() returns trigger language plpgsql as $$
        begin
            new.ts := airweave_words(
                (select language from collection where id = new.collection_id), new.heading || ' ' || new.text);
            return new;
        end $$
    """)
    # 1 is the form before; each chunk that differs is worded anew
    op.add_column("collection", sa.Column("index_version", sa.Integer(), server_default="1", nullable=False))
    op.add_column("collection", sa.Column("worded_row", sa.BigInteger(), nullable=True))
