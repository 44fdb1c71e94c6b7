# Clients that know nothing of synfin, one after the other, and what each of them says; run by bash -e in the lab.
host=10.9.0.2

curl -sS --max-time 20 http://$host:8080/ | sed 's/^/curl: /'
curl -sS --max-time 20 -o body -w 'curl POST: %{http_code}\n' -d question=answer http://$host:8080/

# A megabyte, the end of our half, and only then the rest of what comes back.
head -c 1048576 /dev/urandom >sent
timeout 20 socat -t 20 - TCP:$host:7 <sent >received
cmp sent received && echo "socat: $(stat -c %s received) bytes came back, the same"

timeout 20 wrk -t 1 -c 8 -d 1s http://$host:8080/ | sed 's/^ */wrk: /'

requests() { grep -E '^(Complete|Failed|Keep-Alive) requests:' | tr -s ' ' | sed "s/^/$1: /"; }
timeout 20 ab -q -n 500 -c 8 http://$host:8080/ | requests ab
timeout 20 ab -q -k -n 2000 -c 8 http://$host:8080/ | requests 'ab -k'

# TLS through the stack, which relays to a server of the kernel's and knows nothing of TLS.
openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out certificate -days 1 -subj /CN=lab 2>log
openssl s_server -accept 10.9.0.1:4433 -key key -cert certificate -www >log 2>&1 &
server=$!
until timeout 1 bash -c 'echo >/dev/tcp/10.9.0.1/4433' 2>log; do sleep 0.05; done
printf 'GET / HTTP/1.0\r\n\r\n' |
    timeout 20 openssl s_client -proxy $host:8080 -connect 10.9.0.1:4433 -CAfile certificate -verify_return_error -ign_eof -quiet 2>log |
    sed 's/^/openssl: /' || cat log
kill $server

echo "ss: $(ss -Hlnt | grep -cE ":(7|9|19|8080) " || true) listeners"
echo "ip: $(ip -o address | grep -cF " $host/" || true) interfaces"
