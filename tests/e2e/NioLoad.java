/* SPDX-License-Identifier: Apache-2.0
 *
 * NioLoad PORT COUNTS END: one connection after the other by a selector, until the file END exists. COUNTS holds
 * "connections failed-connects".
 */
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;

public class NioLoad {
    /* True when connect() succeeded, whatever came then. */
    static boolean once(Selector sel, int port) throws IOException {
        try (SocketChannel c = SocketChannel.open()) {
            c.configureBlocking(false);
            boolean up = c.connect(new InetSocketAddress("127.0.0.1", port));
            SelectionKey key = c.register(sel, up ? SelectionKey.OP_READ : SelectionKey.OP_CONNECT);
            while (!up) {
                sel.select(20000);
                sel.selectedKeys().clear();
                try {
                    up = c.finishConnect();
                } catch (IOException e) {
                    System.err.println("connect: " + e);
                    return false;
                }
            }
            key.interestOps(SelectionKey.OP_READ);
            try {
                c.write(ByteBuffer.wrap("GET /page HTTP/1.0\r\n\r\n".getBytes()));
                ByteBuffer b = ByteBuffer.allocate(4096);
                while (c.read(b) >= 0) {
                    b.clear();
                    sel.select(20000);
                    sel.selectedKeys().clear();
                }
            } catch (IOException e) {
                return true; /* its server was killed */
            }
            return true;
        } finally {
            sel.selectNow();
        }
    }

    public static void main(String[] args) throws Exception {
        Path counts = Path.of(args[1]), next = Path.of(args[1] + ".new"), end = Path.of(args[2]);
        try (Selector sel = Selector.open()) {
            for (int n = 0, failed = 0; !Files.exists(end);) {
                n++;
                failed += once(sel, Integer.parseInt(args[0])) ? 0 : 1;
                Files.writeString(next, n + " " + failed + "\n");
                Files.move(next, counts, StandardCopyOption.REPLACE_EXISTING);
            }
        }
    }
}
