package mobileclf.skia

import org.junit.Assert.assertEquals
import org.junit.Test
import org.tensorflow.lite.Interpreter
import java.io.File
import java.lang.reflect.Modifier
import java.net.URLClassLoader

/** Code that runs with the stand-in for LiteRT's class links with the real one. */
class StandInTest {
    private val real = URLClassLoader(
        listOf("tensorflow-lite", "tensorflow-lite-api")
            .map { File(System.getProperty("mobileclf.aar"), "$it/classes.jar").toURI().toURL() }
            .toTypedArray(),
        ClassLoader.getPlatformClassLoader(),
    )

    private fun open(type: Class<*>): Set<String> {
        val methods = type.methods.filter { it.declaringClass == type && !it.isBridge && !it.isSynthetic }
            .filter { Modifier.isPublic(it.modifiers) && '$' !in it.name }
            .map { "${it.returnType.name} ${it.name}(${it.parameterTypes.joinToString { of -> of.name }})" }
        val constructors = type.constructors.filterNot { it.isSynthetic }
            .map { "(${it.parameterTypes.joinToString { of -> of.name }})" }
        return (methods + constructors).toSet()
    }

    /** With what it inherits, since a call of an inherited method links. */
    private fun all(type: Class<*>): Set<String> =
        generateSequence(type) { it.superclass }.takeWhile { it != Any::class.java }.flatMap { open(it) }.toSet()

    @Test
    fun `every method of the stand-in is one of the real class`() {
        for (type in listOf(Interpreter::class.java, Interpreter.Options::class.java)) {
            val found = real.loadClass(type.name)
            assertEquals(emptySet<String>(), open(type) - all(found))
        }
    }
}
