/* SPDX-License-Identifier: Apache-2.0
 *
 * Both programs of 10-java.sh: `server HTTP-PORT SOCKET-PORT FILE` and `client ...`. They know
 * nothing of the mesh. The client prints what must be the same bare and meshed.
 */
import com.sun.net.httpserver.HttpServer;
import java.io.*;
import java.net.*;
import java.net.http.*;
import java.nio.channels.*;
import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

public class MeshJava {
    static final String MARK = "mark-e2e-java-d7c1";

    static String sum(byte[] b) throws Exception {
        return b.length + " " + HexFormat.of().formatHex(
            MessageDigest.getInstance("SHA-256").digest(b)).substring(0, 12);
    }

    /* One connection: a line with a command, then what it says. */
    static void serve(Socket s, String file) {
        try (s) {
            InputStream in = s.getInputStream();
            StringBuilder line = new StringBuilder();
            for (int c; (c = in.read()) > 0 && c != '\n';)
                line.append((char)c);
            OutputStream out = s.getOutputStream();
            switch (line.toString()) {
            case "echo": in.transferTo(out); break;
            case "quiet": in.read(); break; /* says nothing until the peer ends */
            case "file":
                try (FileChannel f = FileChannel.open(Path.of(file));
                     SocketChannel c = s.getChannel()) {
                    for (long at = 0; at < f.size();)
                        at += f.transferTo(at, f.size() - at, c);
                }
                break;
            }
        } catch (IOException e) {
            System.err.println(e);
        }
    }

    static void server(int http, int raw, String file) throws Exception {
        HttpServer h = HttpServer.create(new InetSocketAddress("127.0.0.1", http), 100);
        h.setExecutor(Executors.newFixedThreadPool(4));
        h.createContext("/", x -> {
            byte[] body = x.getRequestBody().readAllBytes();
            byte[] answer = (MARK + " " + x.getRequestURI() + " " + body.length).getBytes();
            x.sendResponseHeaders(200, answer.length);
            x.getResponseBody().write(answer);
            x.close();
        });
        h.start();
        ServerSocketChannel l = ServerSocketChannel.open();
        l.bind(new InetSocketAddress("127.0.0.1", raw));
        for (;;) {
            Socket s = l.accept().socket();
            new Thread(() -> serve(s, file)).start();
        }
    }

    static Socket open(int port, String command) throws Exception {
        Socket s = new Socket("127.0.0.1", port);
        s.setTcpNoDelay(true);
        s.getOutputStream().write((command + "\n").getBytes());
        return s;
    }

    static void client(int http, int raw, String file) throws Exception {
        HttpClient c = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        String base = "http://127.0.0.1:" + http;
        List<CompletableFuture<String>> all = IntStream.range(0, 20).mapToObj(
            i -> c.sendAsync(HttpRequest.newBuilder(URI.create(base + "/" + i + "?" + MARK)).build(),
                             HttpResponse.BodyHandlers.ofString()).thenApply(HttpResponse::body))
            .collect(Collectors.toList());
        for (CompletableFuture<String> f : all)
            System.out.println(f.get());
        System.out.println(c.send(
            HttpRequest.newBuilder(URI.create(base + "/post"))
                .POST(HttpRequest.BodyPublishers.ofFile(Path.of(file))).build(),
            HttpResponse.BodyHandlers.ofString()).body());

        try (Socket s = open(raw, "echo")) {
            byte[] data = Files.readAllBytes(Path.of(file));
            Thread t = new Thread(() -> {
                try {
                    s.getOutputStream().write(data);
                    s.shutdownOutput();
                } catch (IOException e) {
                    System.out.println(e);
                }
            });
            t.start();
            System.out.println("echo " + sum(s.getInputStream().readAllBytes()));
            t.join();
        }
        try (Socket s = open(raw, "file")) {
            System.out.println("file " + sum(s.getInputStream().readAllBytes()));
        }
        try (Socket s = open(raw, "quiet")) {
            s.setSoTimeout(200);
            try {
                s.getInputStream().read();
            } catch (SocketTimeoutException e) {
                System.out.println(e.getMessage() + ", available " + s.getInputStream().available());
            }
        }
        try (Socket s = new Socket("127.0.0.1", 18159)) {
            System.out.println("connected to nobody");
        } catch (ConnectException e) {
            System.out.println(e.getMessage());
        }
    }

    public static void main(String[] a) throws Exception {
        int http = Integer.parseInt(a[1]), raw = Integer.parseInt(a[2]);
        if (a[0].equals("server"))
            server(http, raw, a[3]);
        else
            client(http, raw, a[3]);
        System.exit(0);
    }
}
