# shellcheck shell=sh
#
# What the test asks the host after each boot: lines of NAME=VALUE. It waits for the container, which takes longest.
tries=0
until podman exec lab /bin/busybox cat /lab/up > /tmp/up 2> /dev/null; do
  tries=$((tries + 1))
  [ $tries -lt 120 ] || break
  sleep 2
done
echo "hostname=$(hostname) $(cat /etc/hostname)"
echo "machine-id=$(grep -cxE '[0-9a-f]{32}' /etc/machine-id)"
echo "account=$(id -nG ops)"
echo "password=$(sed -n 's/^ops:\(.\).*/\1/p' /etc/shadow)"
echo "address=$(cat /etc/lab/address) $(stat -c '%a %U:%G' /etc/lab/address)"
echo "secret=$(stat -c '%a %U:%G' /etc/lab/secret) $(stat -c '%a %U:%G' /etc/muster/host.json)"
echo "units=$(systemctl is-active lab-hello.service musterd.service ssh.service | paste -sd ' ')"
echo "failed=$(systemctl list-units --failed --no-legend --plain | awk '{print $1}' | paste -sd ' ')"
echo "runs=$(paste -sd ' ' /var/lib/lab-runs)"
echo "output=$(grep -c canary-output /var/lib/muster/firstboot.out) $(stat -c %a /var/lib/muster/firstboot.out)"
echo "journal=$(journalctl --no-pager -o cat | grep -c canary)"
echo "container=$(cat /tmp/up)"
echo "grown=$([ "$(df --output=size -m /var | tail -n 1)" -gt 3000 ] && echo yes)"
echo "resolver=$(grep -c '^nameserver 10.0.2.3$' /etc/resolv.conf)"
echo "read-only=$(touch /usr/x 2> /dev/null || echo yes)"
echo "opt=$(touch /opt/x /root/x /srv/x /home/x /etc/x && echo writable)"
echo "fleetctl=$(command -v fleetctl) $(fleetctl fd-forward 2>&1 | head -n 1)"
