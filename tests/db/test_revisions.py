"""The schema's revisions, whose order is known without loading Alembic."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from airweave_server.db.session import MIGRATIONS, known_revisions


def test_the_names_of_the_files_tell_the_revisions_in_the_order_of_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    walked = [script.revision for script in ScriptDirectory.from_config(config).walk_revisions()]
    assert known_revisions() == walked
    assert len(walked) >= 3
