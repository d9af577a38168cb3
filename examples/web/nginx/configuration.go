package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"text/template"
)

// shape is nginx's configuration. A request that a server did not take goes to the next one, unless it may have changed something.
var shape = template.Must(template.New("nginx.conf").Parse(`daemon off;
worker_processes 1;
pid {{.Dir}}/pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path {{.Dir}}/body;
    proxy_temp_path {{.Dir}}/proxy;
    fastcgi_temp_path {{.Dir}}/fastcgi;
    uwsgi_temp_path {{.Dir}}/uwsgi;
    scgi_temp_path {{.Dir}}/scgi;
    upstream servers {
{{- range .Servers}}
        server {{.}} max_fails=1 fail_timeout=1s;
{{- else}}
        server 127.0.0.1:9 down; # nobody has announced anything
{{- end}}
    }
    server {
        listen {{.Listen}};
        location / {
            proxy_pass http://servers;
            proxy_connect_timeout 500ms;
            proxy_next_upstream error timeout;
        }
        location = /backends {
            default_type application/json;
            return 200 '{{.List}}';
        }
    }
}
`))

// configuration is nginx's for a directory of its own, an address to listen on, and servers.
func configuration(dir, listen string, servers []string) []byte {
	if servers == nil {
		servers = []string{}
	}
	list, err := json.Marshal(servers)
	if err != nil {
		panic(err) // strings can be encoded
	}
	var b bytes.Buffer
	data := map[string]any{"Dir": dir, "Listen": listen, "Servers": servers, "List": strings.ReplaceAll(string(list), "'", "")}
	if err := shape.Execute(&b, data); err != nil {
		panic(err) // nor can this fail
	}
	return b.Bytes()
}
