#!/bin/sh
# Fills the templates beside this file from the environment into the folder NGINX_CONF, and nothing else that looks like
# a variable: nginx has its own. Then becomes nginx, in the foreground; -t and the like are passed on.
set -eu
here=$(dirname "$0")
mkdir -p "$NGINX_CONF" "$NGINX_RUN"
export GATEHOUSE_MOST_BODIES="${GATEHOUSE_MOST_BODIES:-1000}"
# Of the servers before this one the client's address is believed, the last that is none of theirs.
NGINX_TRUSTED=
for network in $(echo "${NGINX_BEFORE:-}" | tr ',' ' '); do
    NGINX_TRUSTED="$NGINX_TRUSTED set_real_ip_from $network;"
done
[ -z "$NGINX_TRUSTED" ] || NGINX_TRUSTED="$NGINX_TRUSTED real_ip_header X-Forwarded-For; real_ip_recursive on;"
export NGINX_TRUSTED
names='$NGINX_TRUSTED $GATEHOUSE_MOST_BODIES $NGINX_SCHEME $NGINX_PORT $NGINX_PROTO $NGINX_PORTAL $NGINX_STORE $NGINX_CONF $NGINX_RUN $NGINX_CERTIFICATES $GATEHOUSE_NGINX_LOG $GATEHOUSE_MOST_BODIES_EACH'
for template in "$here"/*.template; do
    envsubst "$names" < "$template" > "$NGINX_CONF/$(basename "$template" .template)"
done
exec nginx -e stderr -c "$NGINX_CONF/nginx.conf" "$@"
