package org.cocorrrec.demo;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.os.Bundle;
import android.os.Looper;
import android.os.Parcel;
import android.view.View;
import android.widget.EditText;
import android.widget.ListView;
import android.widget.Switch;
import android.widget.TextView;
import java.io.File;
import java.io.FileOutputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import org.junit.After;
import org.junit.Before;
import org.junit.BeforeClass;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.Shadows;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.annotation.GraphicsMode;

/**
 * The activity itself on Android 14's own views, with the layout, the assets and the native library of the APK.
 *
 * <p>In Java, so that it also runs on the classes of the APK alone, without the rest of Kotlin's library.
 */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 34, qualifiers = "w411dp-h891dp-xhdpi")
@GraphicsMode(GraphicsMode.Mode.NATIVE)
public class MainActivityTest {
  private static final int WIDTH = 822;
  private static final int HEIGHT = 1782;
  private ActivityController<MainActivity> controller;
  private long started;

  @BeforeClass
  public static void bionic() {
    for (String name : new String[] {"libc.so", "libm.so", "libdl.so", "liblog.so"}) {
      System.load(System.getProperty("demo.bionic") + "/" + name);
    }
  }

  @Before
  public void start() {
    started = System.nanoTime();
    controller = Robolectric.buildActivity(MainActivity.class).setup();
  }

  @After
  public void end() {
    RuntimeEnvironment.getApplication().onTerminate();
  }

  private <T extends View> T find(int id) {
    return controller.get().findViewById(id);
  }

  private String text(int id) {
    return ((TextView) find(id)).getText().toString();
  }

  private ListView films() {
    return find(R.id.films);
  }

  /** What the rows of the list show, as the adapter draws them. */
  private List<String> rows() {
    List<String> rows = new ArrayList<>();
    for (int place = 0; place < films().getAdapter().getCount(); place++) {
      View row = films().getAdapter().getView(place, null, films());
      rows.add(((TextView) row.findViewById(R.id.title)).getText() + " " + ((TextView) row.findViewById(R.id.score)).getText());
    }
    return rows;
  }

  /** The status, once it is what is waited for. */
  private String await(Predicate<String> isIt) throws InterruptedException {
    for (int i = 0; i < 600 && !isIt.test(text(R.id.status)); i++) {
      Thread.sleep(50);
      Shadows.shadowOf(Looper.getMainLooper()).idle();
    }
    String status = text(R.id.status);
    assertTrue(status, isIt.test(status));
    return status;
  }

  private void tap(int place) {
    films().performItemClick(films().getAdapter().getView(place, null, films()), place, place);
  }

  private String title(int place) {
    return ((TextView) films().getAdapter().getView(place, null, films()).findViewById(R.id.title)).getText().toString();
  }

  private void awaitClick(String title) throws InterruptedException {
    await(status -> text(R.id.clicks).startsWith(title));
  }

  @Test
  public void it_ranks_ten_films_and_a_tap_is_a_click() throws Exception {
    String status = await(x -> x.startsWith("alone"));
    System.out.println("from the start to the first ranking " + (System.nanoTime() - started) / 1_000_000 + " ms: " + status);
    List<String> before = rows();
    assertEquals(10, before.size());
    assertTrue(text(R.id.clicks), text(R.id.clicks).startsWith("Matrix, The (1999), Star Wars"));
    String film = title(3);
    tap(3);
    awaitClick(film);
    assertNotEquals(before, rows());
    assertTrue(text(R.id.latency), text(R.id.latency).startsWith("p50 of the last 2: "));
  }

  @Test
  public void with_the_cloud_the_list_is_corrected() throws Exception {
    await(x -> x.startsWith("alone"));
    List<String> alone = rows();
    ((EditText) find(R.id.server)).setText(System.getenv("COCORR_SERVER"));
    ((Switch) find(R.id.cloud)).setChecked(true);
    // Whatever the first call costs, the next answer is in time.
    await(x -> !x.startsWith("alone") || text(R.id.counts).startsWith("sent 1"));
    for (int i = 0; i < 5 && !text(R.id.status).startsWith("corrected"); i++) {
      String film = title(0);
      tap(0);
      awaitClick(film);
    }
    String status = await(x -> x.startsWith("corrected"));
    System.out.println(status + "; " + text(R.id.counts));
    assertNotEquals(alone, rows());
    picture(System.getProperty("demo.picture"));
    ((Switch) find(R.id.cloud)).setChecked(false);
    await(x -> x.startsWith("alone"));
  }

  @Test
  public void a_server_that_is_gone_costs_the_correction_alone() throws Exception {
    await(x -> x.startsWith("alone"));
    List<String> alone = rows();
    ((EditText) find(R.id.server)).setText("http://127.0.0.1:9");
    ((Switch) find(R.id.cloud)).setChecked(true);
    await(x -> text(R.id.counts).contains("failed 1"));
    assertEquals(alone, rows());
  }

  @Test
  public void a_rotation_keeps_everything() throws Exception {
    await(x -> x.startsWith("alone"));
    String film = title(2);
    tap(2);
    awaitClick(film);
    List<String> before = rows();
    String latency = text(R.id.latency);
    RuntimeEnvironment.setQualifiers("+land");
    controller.configurationChange();
    Shadows.shadowOf(Looper.getMainLooper()).idle();
    assertTrue(text(R.id.clicks).startsWith(film));
    assertEquals(before, rows());
    assertEquals(latency, text(R.id.latency));
  }

  @Test
  public void the_death_of_the_process_keeps_the_clicks() throws Exception {
    await(x -> x.startsWith("alone"));
    String film = title(5);
    tap(5);
    awaitClick(film);
    List<String> before = rows();
    Bundle saved = throughAParcel(savedState());
    controller.pause().stop().destroy();
    RuntimeEnvironment.getApplication().onTerminate();
    controller = Robolectric.buildActivity(MainActivity.class).setup(saved);
    await(x -> x.startsWith("alone"));
    assertTrue(text(R.id.clicks), text(R.id.clicks).startsWith(film));
    assertEquals(before, rows());
    assertTrue(text(R.id.latency), text(R.id.latency).startsWith("p50 of the last 1: "));
  }

  private Bundle savedState() {
    Bundle state = new Bundle();
    controller.saveInstanceState(state);
    assertNotNull(state.getStringArrayList("clicks"));
    return state;
  }

  /** As the system keeps it: bytes alone. */
  private static Bundle throughAParcel(Bundle state) {
    Parcel parcel = Parcel.obtain();
    state.writeToParcel(parcel, 0);
    byte[] bytes = parcel.marshall();
    Parcel again = Parcel.obtain();
    again.unmarshall(bytes, 0, bytes.length);
    again.setDataPosition(0);
    return again.readBundle(MainActivityTest.class.getClassLoader());
  }

  private void picture(String path) throws Exception {
    View root = controller.get().getWindow().getDecorView();
    int exactly = View.MeasureSpec.EXACTLY;
    root.measure(View.MeasureSpec.makeMeasureSpec(WIDTH, exactly), View.MeasureSpec.makeMeasureSpec(HEIGHT, exactly));
    root.layout(0, 0, WIDTH, HEIGHT);
    Bitmap bitmap = Bitmap.createBitmap(WIDTH, HEIGHT, Bitmap.Config.ARGB_8888);
    root.draw(new Canvas(bitmap));
    try (FileOutputStream out = new FileOutputStream(new File(path))) {
      bitmap.compress(Bitmap.CompressFormat.PNG, 100, out);
    }
  }
}
