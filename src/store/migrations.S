/* The migrations, as they stand in the files, inside the program. */
    .section .rodata

    .macro migration label, file
    .global pst_migration_\label
    .global pst_migration_\label\()_end
    .hidden pst_migration_\label
    .hidden pst_migration_\label\()_end
pst_migration_\label:
    .incbin "\file"
pst_migration_\label\()_end:
    .byte 0
    .endm

    migration 0001_sqlite, "src/store/migrations/0001.sqlite.sql"
    migration 0002_sqlite, "src/store/migrations/0002.sqlite.sql"
    migration 0003_sqlite, "src/store/migrations/0003.sqlite.sql"
    migration 0004_sqlite, "src/store/migrations/0004.sqlite.sql"
    migration 0001_postgres, "src/store/migrations/0001.postgres.sql"
    migration 0002_postgres, "src/store/migrations/0002.postgres.sql"
    migration 0003_postgres, "src/store/migrations/0003.postgres.sql"
    migration 0004_postgres, "src/store/migrations/0004.postgres.sql"

    .section .note.GNU-stack, "", @progbits
