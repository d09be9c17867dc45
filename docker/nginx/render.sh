#!/bin/sh
# Fill in the templates in this folder from the environment, write them to the folder NGINX_CONF, and run nginx in the
# foreground. Only the variables in `names` are replaced: nginx has its own. Arguments such as -t are passed on.
set -eu
here=$(dirname "$0")
mkdir -p "$NGINX_CONF" "$NGINX_RUN"
export GATEHOUSE_MOST_BODIES="${GATEHOUSE_MOST_BODIES:-1000}"
# Trust the servers before this one: the client is the last address in their header that is not one of theirs.
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
