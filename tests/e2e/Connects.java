/* SPDX-License-Identifier: Apache-2.0
 *
 * Connects PORT N: N connects at once by a selector, each with a request for /page when it is up: a line for each
 * with its milliseconds, or "failed".
 */
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;

public class Connects {
    static void finish(SelectionKey key) throws IOException {
        SocketChannel c = (SocketChannel) key.channel();
        c.finishConnect();
        key.attach((System.nanoTime() - (Long) key.attachment()) / 1000000);
        key.interestOps(SelectionKey.OP_READ);
        c.write(ByteBuffer.wrap("GET /page HTTP/1.0\r\n\r\n".getBytes()));
    }

    static void read(SelectionKey key) throws IOException {
        ByteBuffer b = ByteBuffer.allocate(4096);
        int n = ((SocketChannel) key.channel()).read(b);
        if (n <= 0 || !new String(b.array(), 0, n).contains(" 200 ")) {
            throw new IOException("no answer");
        }
        System.out.println(key.attachment());
        key.channel().close();
    }

    public static void main(String[] args) throws IOException {
        int left = Integer.parseInt(args[1]);
        try (Selector sel = Selector.open()) {
            for (int i = 0; i < left; i++) {
                SocketChannel c = SocketChannel.open();
                c.configureBlocking(false);
                boolean up = c.connect(new InetSocketAddress("127.0.0.1", Integer.parseInt(args[0])));
                SelectionKey key = c.register(sel, SelectionKey.OP_CONNECT, System.nanoTime());
                if (up) {
                    finish(key);
                }
            }
            while (left > 0) {
                sel.select();
                for (SelectionKey key : sel.selectedKeys()) {
                    try {
                        if (key.isConnectable()) {
                            finish(key);
                        } else {
                            read(key);
                            left--;
                        }
                    } catch (IOException e) {
                        System.out.println("failed: " + e);
                        key.channel().close();
                        left--;
                    }
                }
                sel.selectedKeys().clear();
            }
        }
    }
}
