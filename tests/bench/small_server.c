/* A single-user server that costs next to nothing: it answers every request with 200 at the address it is given.
   For benches of what the hub itself costs; both hubs start the same program. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    static const char answer[] =
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nContent-Type: application/json\r\n"
        "X-JupyterHub-Version: 6.1.1\r\n\r\n{}";
    const char *url = getenv("JUPYTERHUB_SERVICE_URL"); /* http://127.0.0.1:PORT/… */
    const char *host = url ? strstr(url, "//") : NULL, *port = host ? strchr(host, ':') : NULL;
    if (port == NULL) return 2;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(port + 1))};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1, listening = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listening, (struct sockaddr *)&here, sizeof here) || listen(listening, 16)) return 3;
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        char asked[8192];
        int visitor = accept(listening, NULL, NULL);
        if (visitor < 0) continue;
        if (read(visitor, asked, sizeof asked) > 0) (void)!write(visitor, answer, sizeof answer - 1);
        shutdown(visitor, SHUT_WR);
        close(visitor);
    }
}
