# What the first start runs: the shop's own role, which is no superuser, and its database.
psql -v ON_ERROR_STOP=1 -v password="$(cat /run/secrets/shop_password)" --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
CREATE ROLE shop LOGIN PASSWORD :'password';
CREATE DATABASE shop OWNER shop;
REVOKE ALL ON DATABASE shop FROM PUBLIC;
SQL
