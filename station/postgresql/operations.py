"""Operations of migrations that Django's PostgreSQL operations lack."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState


class AddIndexRepeatably(AddIndexConcurrently):
    """Create an index beside everybody else, from the start if it is there already.

    Nothing takes back what a migration outside a transaction did before it was interrupted: the
    index may be there without being recorded, or stay behind broken, which PostgreSQL calls
    invalid. Django's own operation fails on either, at every further try.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        # Taking it back is DROP INDEX CONCURRENTLY IF EXISTS.
        self.database_backwards(app_label, schema_editor, to_state, from_state)
        super().database_forwards(app_label, schema_editor, from_state, to_state)
