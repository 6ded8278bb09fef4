#!/bin/sh
# Makes Temporal's two databases where they are missing and brings their tables up to date; it may run as often as you
# like. SQL_HOST, SQL_PORT, SQL_USER, SQL_PASSWORD and SQL_PLUGIN, which temporal-sql-tool reads itself, say where.
#
# A database that notes a version is only ever updated from there. setup-schema, which notes version 0.0, takes any
# trouble in reading the version for there being none; so it is called only when Postgres said that there is none.
set -eu

prepare() {
    database=$1
    versions=${TEMPORAL_SCHEMAS:-/etc/temporal/schema/postgresql/v12}/$2/versioned
    temporal-sql-tool --db "$database" create-database
    if said=$(temporal-sql-tool --db "$database" update-schema -d "$versions" 2>&1); then
        echo "$said"
        return
    fi
    case "$said" in
    *relation*schema_version*'does not exist'* | *'reading current schema version'*'no rows in result set'*)
        temporal-sql-tool --db "$database" setup-schema -v 0.0
        temporal-sql-tool --db "$database" update-schema -d "$versions"
        ;;
    *)
        echo "$said" >&2
        return 1
        ;;
    esac
}

prepare temporal temporal
prepare temporal_visibility visibility
echo "Temporal's databases are up to date."
